# SPDX-License-Identifier: MIT
# Longest Collatz chains, by blocks of 2000 numbers: gawk -v rounds=N -f collatz.awk. A line for each block.
BEGIN {
    block = 2000
    for (round = 1; round <= rounds; round++) {
        sum = 0
        for (start = (round - 1) * block + 1; start <= round * block; start++) {
            number = start
            steps = 0
            while (number != 1) {
                if (number in known) {
                    steps += known[number]
                    break
                }
                number = number % 2 ? 3 * number + 1 : number / 2
                steps++
            }
            if (start % 16 == 0)
                known[start] = steps
            sum += steps
            if (steps > longest) {
                longest = steps
                best = start
            }
        }
        total = (total * 31 + sum) % 1000000007
        printf "%d %d: longest %d at %d, sum %d, total %d\n", round, round * block, longest, best, sum, total
        fflush()
    }
}
