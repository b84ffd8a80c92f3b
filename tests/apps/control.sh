# SPDX-License-Identifier: MIT
# control.sh ROUNDS: for a shell with job control at a terminal: jobs in groups of their own, one that stops itself and is brought to the
# front. With a file $GUEST_READY.hold the last round does not begin.
round=0
while [ "$round" -lt "$1" ]; do
    round=$((round + 1))
    while [ "$round" -eq "$1" ] && [ -e "$GUEST_READY.hold" ]; do sleep 0.02; done
    { sleep 0.05 && echo "in the background $round"; } | tr a-z A-Z &
    wait
    sh -c 'kill -STOP $$; echo "went on in round $1"' sh "$round" &
    until [ -n "$(jobs -s)" ]; do sleep 0.01; done
    jobs -s
    fg
    echo "round $round, the shell is in front: $(($(cut -d ' ' -f 8 /proc/self/stat) == $$))"
done
