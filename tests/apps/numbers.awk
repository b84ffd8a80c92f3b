# SPDX-License-Identifier: MIT
# Unsorted lines for sort, the same in every run: awk -v lines=N -f numbers.awk
BEGIN {
    seed = 12345
    for (line = 1; line <= lines; line++) {
        seed = (seed * 16807) % 2147483647
        print seed % 1000003, line, "some text to make the line longer", seed
    }
}
