# SPDX-License-Identifier: MIT
# jobs.sh ROUNDS: what batch scripts do: pipelines, background jobs and wait, subshells, traps, xargs, an environment of its own. With a file
# $GUEST_READY.hold the last round does not begin.
trap 'echo got a signal' USR1
round=0
while [ "$round" -lt "$1" ]; do
    round=$((round + 1))
    while [ "$round" -eq "$1" ] && [ -e "$GUEST_READY.hold" ]; do sleep 0.02; done # a test wants it alive
    (
        sleep 0.05
        echo "background $round"
    ) &
    sum=$(seq 1 20000 | awk '{ s += $1 * '"$round"'; print s }' | tr 1 2 | sort -n | cksum)
    wait
    echo "round $round: $sum"
    (
        trap 'exit 3' TERM
        kill -TERM "$(sh -c 'echo $PPID')"
        exit 4
    ) || echo "subshell ended with $?"
    seq 1 8 | xargs -P 4 -n 2 sh -c 'echo $(($1 * $2))' sh | sort -n | tr '\n' ' '
    env -i /bin/sh -c 'echo "an environment with $# arguments"' sh "$round"
    kill -USR1 $$
done
