/* SPDX-License-Identifier: MIT */
/* Heat in a ring of MPI processes: each step they hand each other their borders, and add up what all have. ring STEPS; the first process waits in
 * the middle while there is a file `hold`. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CELLS = 1000 };

static void hand_on(double *cells, int left, int right)
{
    MPI_Sendrecv(&cells[CELLS], 1, MPI_DOUBLE, right, 0, &cells[0], 1, MPI_DOUBLE, left, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Sendrecv(&cells[1], 1, MPI_DOUBLE, left, 1, &cells[CELLS + 1], 1, MPI_DOUBLE, right, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static double spread(double *cells, int is_first)
{
    static double next[CELLS + 2];
    double sum = 0, all;

    for (int i = 1; i <= CELLS; i++)
        next[i] = cells[i] + 0.25 * (cells[i - 1] - 2 * cells[i] + cells[i + 1]);
    for (int i = 1; i <= CELLS; i++)
        sum += cells[i] = is_first && i == 1 ? 1000 : next[i];
    MPI_Allreduce(&sum, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return all;
}

int main(int count, char **arguments)
{
    static double cells[CELLS + 2];
    int rank, size, steps = count > 1 ? atoi(arguments[1]) : 100;

    MPI_Init(&count, &arguments);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int step = 0; step < steps; step++) {
        hand_on(cells, (rank + size - 1) % size, (rank + 1) % size);
        double all = spread(cells, rank == 0);
        if (rank == 0)
            printf("%d %.17g\n", step, all), fflush(stdout);
        while (rank == 0 && step == steps / 2 && !access("hold", F_OK))
            usleep(10000);
    }
    MPI_Finalize();
    return 0;
}
