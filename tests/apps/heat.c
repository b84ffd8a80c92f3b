/* SPDX-License-Identifier: MIT */
/* Heat on a plate, by OpenMP threads: heat STEPS. A line every ten steps; sums are taken in order, so that every run says the same. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 600 };
static double now[N][N], next[N][N], rows[N];

static double step(void)
{
    double sum = 0;

#pragma omp parallel for schedule(dynamic, 8)
    for (int i = 1; i < N - 1; i++) {
        rows[i] = 0;
        for (int j = 1; j < N - 1; j++) {
            next[i][j] = now[i][j] + 0.2 * (now[i - 1][j] + now[i + 1][j] + now[i][j - 1] + now[i][j + 1] - 4 * now[i][j]);
            rows[i] += next[i][j];
        }
    }
#pragma omp parallel for
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            now[i][j] = next[i][j];
    for (int i = 1; i < N - 1; i++)
        sum += rows[i];
    return sum;
}

int main(int count, char **arguments)
{
    int steps = count > 1 ? atoi(arguments[1]) : 100;

    omp_set_num_threads(3);
    for (int i = 0; i < N; i++)
        now[i][0] = now[0][i] = 100.0 * i / N;
    for (int i = 1; i <= steps; i++) {
        double sum = step();
        if (i % 10 == 0)
            printf("%d: %.10f %.10f\n", i, sum, now[N / 2][N / 3]);
        fflush(stdout);
    }
    return 0;
}
