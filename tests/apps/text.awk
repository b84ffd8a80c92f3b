# SPDX-License-Identifier: MIT
# Text that compresses somewhat, the same in every run, for xz: awk -v lines=N -f text.awk
BEGIN {
    seed = 12345
    for (line = 1; line <= lines; line++) {
        text = line
        for (word = 0; word < 12; word++) {
            seed = (seed * 16807) % 2147483647
            text = text " " (seed % 3 ? seed % 997 : seed)
        }
        print text
    }
}
