# SPDX-License-Identifier: MIT
# Descriptors that stand for events: eventfd, timerfd, signalfd, epoll, inotify. The guest `events` looks at them at every tick.

load helpers

@test "eventfd: counters, semaphores and flags, in three lives" {
    survives eventfd "$GUESTS/events" eventfd
}

@test "eventfd: on kernels that do not tell what is a semaphore, too" {
    VARIABLES=(STASIS_TEST_FAIL=eventfd-semaphore)
    survives eventfd "$GUESTS/events" eventfd
}

@test "timerfd: every clock, what is left, and no expiration too many or too few, in three lives" {
    survives timerfd "$GUESTS/events" timerfd
}

@test "signalfd: what waits and for what, in three lives, and nothing of ours in it" {
    survives signalfd "$GUESTS/events" signalfd
}

@test "epoll: edges, once, in one another, under numbers of others, in three lives" {
    survives epoll "$GUESTS/events" epoll
}

@test "epoll: a standard stream that cannot be waited for refuses the restart by name" {
    mkfifo "$T/in"
    own "$T/in"
    exec 7<>"$T/in"
    INPUT=$T/in start_guest stream "$GUESTS/events" stream
    echo first >&7
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    restart_refused R-EPOLL: "$IMAGE"
    INPUT=$T/in restart_back stream "$IMAGE"
    echo second >&7
    ends_well stream
    says_ok stream
    exec 7>&-
}

@test "inotify: watches under their numbers, gaps among them, and events that were not read, in three lives" {
    survives inotify "$GUESTS/events" inotify
}

# For what only root may have: whoever runs the tests.
as_root() {
    needs_root "$1"
    BECOME=()
    USER_ID=0
}

@test "epoll: what no descriptor leads to any more is refused by name" {
    refused_as R-EPOLL "$GUESTS/forbidden" lost-registration
}

@test "inotify: what has been moved, or was asked for by a raw system call, is refused by name" {
    refused_as R-INOTIFY "$GUESTS/forbidden" moved-watch
    refused_as R-INOTIFY "$GUESTS/forbidden" raw-watch
}

@test "timerfd: an alarm clock is refused by name" {
    as_root "for alarm clocks"
    refused_as R-TIMERFD "$GUESTS/forbidden" alarm-timer
}

@test "timerfd: expirations that a kernel cannot give refuse the restart by name" {
    VARIABLES=(STASIS_TEST_FAIL=timer-ticks)
    start_guest timerfd "$GUESTS/events" timerfd
    take "$PID"
    kill_hard "$PID"
    restart_refused R-TIMERFD: "$IMAGE"
}

@test "refused by name: fanotify, userfaultfd, io_uring, perf_event" {
    local what
    for what in FANOTIFY:fanotify USERFAULTFD:userfaultfd IO-URING:io-uring IO-URING:polled-ring IO-URING:mapped-ring PERF-EVENT:perf-event; do
        refused_as "R-${what%:*}" "$GUESTS/forbidden" "${what#*:}"
    done
}

@test "refused by name: bpf and kvm" {
    as_root "for maps of bpf"
    refused_as R-BPF "$GUESTS/forbidden" bpf-map
    [ -e /dev/kvm ] || skip "needs: a machine with /dev/kvm"
    refused_as R-KVM "$GUESTS/forbidden" device /dev/kvm
}

# The nodes are of another device, which this machine has; in a /dev of the program's own.
@test "refused by name: devices of GPUs and InfiniBand" {
    local path
    as_root "for nodes of devices"
    for path in nvidia0 dri/renderD128 infiniband/uverbs0; do
        mkdir -p "$T/dev/shm"
        cat >"$T/with_dev" <<END
mount -t tmpfs -o mode=0755 dev "$T/dev"
mkdir -p "$T/dev/shm" "$T/dev/$path"
rmdir "$T/dev/$path"
mount --bind /dev/shm "$T/dev/shm"
mknod "$T/dev/$path" c 10 229
mknod "$T/dev/null" c 1 3
mount --rbind "$T/dev" /dev
exec "$GUESTS/forbidden" device "/dev/$path"
END
        start_guest device unshare -m sh -e "$T/with_dev"
        ! grep NONE "$T/device.out" || skip "needs: a machine with /dev/fuse"
        refused "$PID" 69
        case $path in i*) [[ "$stderr" == *R-INFINIBAND:* ]] ;; *) [[ "$stderr" == *R-GPU:* ]] ;; esac || fail "$path: $stderr"
        ends_well device
    done
}

@test "pidfd: of the program itself, in three lives" {
    survives pidfd "$GUESTS/events" pidfd
}

@test "pidfd: of another process is refused by name" {
    refused_as R-PIDFD "$GUESTS/forbidden" pidfd
}
