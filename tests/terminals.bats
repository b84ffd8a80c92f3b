# SPDX-License-Identifier: MIT
# Programs at a terminal, driven through tmux as a person would: keys are typed, and the screen is looked at.

load helpers

tm() {
    as_user tmux -S "$T/tmux" -f /dev/null "$@"
}

# at_shell: a window with an interactive shell.
at_shell() {
    tm new-session -d -x 80 -y 24 'PS1="ready> " TERM=screen bash --norc --noprofile -i'
    until_true 60 shows 'ready>'
}

# at_window COMMAND: a window whose program is COMMAND; it leads the window's session.
at_window() {
    tm new-session -d -x 80 -y 24 "exec $1" ';' set-option -w remain-on-exit on
}

keys() {
    tm send-keys "$@"
}

screen() {
    tm capture-pane -p
}

shows() {
    screen | grep -qF -- "$1"
}

sees() {
    until_true 60 shows "$1" || fail "the screen shows: $(screen)"
}

# same_screen FILE: it comes to show this.
same_screen() {
    until_true 60 is_screen "$1" || fail "the screen differs: $(diff "$1" <(screen))"
}

is_screen() {
    screen | cmp -s "$1" -
}

begins_with() {
    [ "$(screen | head -n 1)" = "$1" ]
}

close_windows() {
    tm kill-server || :
    until_true 60 no_processes
}

# Scripts `begin` and `again`: COMMAND under stasis, and its restart. Both say in the file `pid` who they are.
write_scripts() {
    printf 'echo $$ >pid.new; mv pid.new pid\nexec "%s" run --checkpoint-dir="%s" --job-id=term -- %s\n' "$STASIS" "$IMAGES" "$*" >"$T/begin"
    printf 'echo $$ >pid.new; mv pid.new pid\nexec "%s" restart "%s/term.0.ckpt"\n' "$STASIS" "$IMAGES" >"$T/again"
}

know_pid() {
    wait_for_file "$T/pid"
    PID=$(cat "$T/pid")
    rm "$T/pid"
}

# take_and_kill: an image of what runs in the window; then it is killed.
take_and_kill() {
    take "$PID"
    kill -KILL "$PID"
    until_true 60 is_gone "$PID"
}

# again_here: brought back from the shell in the window.
again_here() {
    keys 'clear; stty sane; sh again' Enter
    know_pid
    until_true 60 is_back_or_gone
    is_alive "$PID" || fail "the restart ended at once: $(screen)"
}

# again_in_window: brought back as the program of a new window.
again_in_window() {
    close_windows
    at_window 'sh again'
    know_pid
    until_true 60 is_back_or_gone
    is_alive "$PID" || fail "the restart ended at once: $(screen)"
}

begin_here() {
    keys 'sh begin' Enter
    know_pid
}

many_lines() {
    seq -f 'line %g' 1 500 >"$T/lines"
    write_scripts less lines
}

@test "less at a shell: screens are those of an undisturbed run, over three lives; Ctrl-Z and fg" {
    many_lines
    at_shell
    begin_here
    sees 'line 1'
    keys 100g /line Space 3 Enter
    sees 'line 300'
    screen >"$T/golden.1"
    keys G
    sees '(END)'
    screen >"$T/golden.2"
    keys 100g /line Space 3 Enter
    same_screen "$T/golden.1"

    take_and_kill
    sees 'Killed'
    again_here
    same_screen "$T/golden.1"
    keys C-z
    sees 'Stopped'
    until_true 60 is_stopped "$PID"
    keys 'fg' Enter
    same_screen "$T/golden.1"
    take_and_kill
    sees 'Killed'
    again_here
    same_screen "$T/golden.1"
    keys G
    same_screen "$T/golden.2"
    tm resize-window -x 70 -y 12
    until_true 60 begins_with 'line 478'
    keys q
    until_true 60 is_gone "$PID"
    keys 'stty -a' Enter
    sees ' icanon'
    close_windows
}

@test "vi at a shell: what was typed is in the file, and the screen is right; a window of another size" {
    write_scripts vi -u NONE -i NONE -n text
    at_shell
    begin_here
    sees '[New'
    keys i 'first line' Enter 'second'
    sees 'second'
    take_and_kill
    sees 'Killed'
    tm resize-window -x 60 -y 15
    again_here
    sees 'second'
    keys ' line' Escape
    sees 'second line'
    take_and_kill
    again_here
    sees 'second line'
    keys o third Escape :wq Enter
    until_true 60 is_gone "$PID"
    close_windows
    [ "$(cat "$T/text")" = $'first line\nsecond line\nthird' ] || fail "it has written: $(cat "$T/text")"
}

# result TEXT: the guest has ended well, with these keys, in a window of this size.
result() {
    until_true 60 is_gone "$PID"
    [ "$(cat "$T/result" 2>/dev/null)" = "OK $1" ] || fail "the guest says: $(cat "$T/result") $(screen)"
}

guest_is_ready() {
    know_pid
    until_true 60 ready_or_gone
    is_alive "$PID" || fail "the guest ended before it was ready"
}

# The guest as the program of a window, which it leads; it has read some keys.
window_guest() {
    write_scripts "$GUESTS/terminal" "$T/result" leads
    at_window 'sh begin'
    guest_is_ready
    keys abc
    sees 'read abc'
}

@test "a terminal in modes of the program's own, held by several descriptors, over three lives" {
    write_scripts "$GUESTS/terminal" "$T/result"
    at_shell
    keys 'sh begin' Enter
    guest_is_ready
    keys abc
    sees 'read abc'
    take_and_kill
    sees 'Killed'
    again_here
    keys de
    sees 'read abcde'
    take_and_kill
    tm resize-window -x 90 -y 20
    again_here
    keys fq
    result 'abcdefq, 20 by 90'
    close_windows
}

@test "the program of a window, in a new window, over three lives: the terminal is handed over" {
    window_guest
    take_and_kill
    again_in_window
    keys de
    sees 'read abcde'
    take_and_kill
    again_in_window
    tm resize-window -x 90 -y 20
    sees '20 by 90'
    keys fq
    result 'abcdefq, 20 by 90'
    close_windows
}

@test "the program of a window, at a shell: its terminal is relayed; Ctrl-Z is for the program" {
    window_guest
    take_and_kill
    close_windows
    at_shell
    again_here
    keys C-z de
    sees 'read abcde'
    take_and_kill
    sees 'Killed'
    again_here
    tm resize-window -x 90 -y 20
    keys f
    tm resize-window -x 85 -y 21
    sees '21 by 85'
    keys q
    result 'abcdefq, 21 by 85'
    keys 'stty -a' Enter
    sees ' icanon'
    close_windows
}

@test "in the background the restart of a program that left line mode stops, and fg goes on; whatever asks for the terminal" {
    local leads
    for leads in '' leads; do
        rm -f "$T/result" "$T/ready"
        write_scripts "$GUESTS/terminal" "$T/result" $leads
        if [ -n "$leads" ]; then at_window 'sh begin'; else at_shell; keys 'sh begin' Enter; fi
        guest_is_ready
        keys abc
        sees 'read abc'
        take_and_kill
        if [ -n "$leads" ]; then close_windows && at_shell; fi
        keys 'clear; stty sane; sh again &' Enter
        know_pid
        if [ -n "$leads" ]; then until_true 60 is_back_or_gone; else until_true 60 tells_of_stop; fi
        keys 'fg' Enter
        until_true 60 is_back_or_gone
        keys dq
        result 'abcdq, 24 by 80'
        close_windows
    done
}

# A shell says so before its next prompt.
tells_of_stop() {
    keys '' Enter
    shows 'Stopped'
}

@test "a window is closed: the program gets its hangup, handed over or relayed" {
    local place
    window_guest
    take_and_kill
    again_in_window
    tm kill-server
    until_true 60 no_processes
    at_shell
    again_here
    tm kill-server
    until_true 60 no_processes
}

@test "without a terminal: refused by name when it is held by another name, else its streams are those of the command" {
    write_scripts "$GUESTS/terminal" "$T/result"
    at_shell
    keys 'sh begin' Enter
    guest_is_ready
    take_and_kill
    close_windows
    run --separate-stderr as_user setsid -w "$STASIS" restart "$IMAGES"
    [ "$status" = 69 ] || fail "status $status: $stderr"
    named "$stderr"
    [[ "$stderr" == *R-TERMINAL* ]]
}

@test "a program that outlives its terminal has images, and the streams of the restart" {
    write_scripts "$GUESTS/threads" 9 1
    sed -i '1i trap "" HUP' "$T/begin"
    at_window 'sh begin'
    hold
    guest_is_ready
    tm kill-server
    until_true 60 is_hung_up
    take "$PID"
    kill -KILL "$PID"
    until_true 60 no_processes
    restart threads "$IMAGE"
    ends_well threads
    says_ok threads
}

is_hung_up() {
    [[ "$(readlink "/proc/$PID/fd/0")" == *' (deleted)' ]]
}

# ---- pairs of which the program holds both sides ----

pairs_live() {
    start_guest pairs "$GUESTS/pairs" 1
    take "$PID"
    grep -q 'master of /dev/pts/' <(stasis show "$IMAGE")
    kill_hard "$PID"
    restart_back pairs "$IMAGE"
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    restart pairs "$IMAGE"
    ends_well pairs
    says_ok pairs
}

@test "pairs: numbers, modes, packets, lock, control, and all that is on its way, over three lives" {
    pairs_live
}

@test "pairs: images are taken and the program notices nothing" {
    start_guest pairs "$GUESTS/pairs" 2
    for _ in {1..8}; do take "$PID"; done
    ends_well pairs
    says_ok pairs
}

@test "pairs: stopped output, news of packets, exclusive mode, no other side: refused by name, and the program runs on" {
    local what
    local -A why=([stopped]='is stopped' [news]='news of its mode' [exclusive]='in exclusive mode' [alone]='holds its other side')
    for what in "${!why[@]}"; do
        start_guest "$what" "$GUESTS/pairs" 1 "$what"
        refused "$PID" 69
        [[ "$stderr" == *"R-TERMINAL: "*"${why[$what]}"* ]] || fail "$what: $stderr"
        ends_well "$what"
        says_ok "$what"
    done
}

@test "pairs: a child at a terminal of its own, which controls its session, talked to over three lives" {
    start_guest talk python3 "$APPS/conversation.py"
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    restart_back talk "$IMAGE"
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    restart talk "$IMAGE"
    ends_well talk
    says_ok talk
}
