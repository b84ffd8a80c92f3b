/* SPDX-License-Identifier: MIT */
/* posix_shm SECONDS: POSIX shared memory and named semaphores: open, mapped, or both, with and without their names. A thread waits for a
 * semaphore all the time. */
#include "guest.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { SIZE = 3 * GUEST_PAGE };

static struct memory {
    const char *what;
    int keep_open, map, unlink, again; /* again: another one gets the name it had */
    int fd;
    char *bytes;
    char name[64];
} memories[] = {
    { "open and mapped", 1, 1, 0, 0, -1, NULL, "" },   { "only open", 1, 0, 0, 0, -1, NULL, "" },
    { "only mapped", 0, 1, 0, 0, -1, NULL, "" },       { "unlinked", 1, 1, 1, 0, -1, NULL, "" },
    { "unlinked, only mapped", 0, 1, 1, 0, -1, NULL, "" }, { "unlinked, its name taken", 1, 1, 1, 1, -1, NULL, "" },
};
enum { MEMORIES = sizeof memories / sizeof *memories };

static sem_t *named, *nameless, *go, *gone;
static char semaphore_name[64], go_name[64], gone_name[64];
static volatile long served;

static void begin_memory(int index)
{
    struct memory *memory = &memories[index];

    snprintf(memory->name, sizeof memory->name, "/guest-shm-%d-%ld", index, (long)getpid());
    memory->fd = shm_open(memory->name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (memory->fd < 0 || ftruncate(memory->fd, SIZE) || fchmod(memory->fd, 0620))
        bad("shm_open: %s", strerror(errno));
    if (memory->map)
        memory->bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
    if (memory->bytes == MAP_FAILED || pwrite(memory->fd, memory->what, strlen(memory->what) + 1, GUEST_PAGE) < 0)
        bad("mmap: %s", strerror(errno));
    if (memory->unlink)
        shm_unlink(memory->name);
    if (!memory->keep_open)
        close(memory->fd);
    if (memory->again) {
        int other = shm_open(memory->name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (other < 0 || write(other, "other", 6) != 6)
            bad("the same name again: %s", strerror(errno));
    }
}

static void *wait_for_go(void *none)
{
    for (;;) {
        sem_wait(go);
        served++;
        sem_post(gone);
    }
    return none;
}

static void begin_semaphores(void)
{
    pthread_t thread;

    snprintf(semaphore_name, sizeof semaphore_name, "/guest-sem-%ld", (long)getpid());
    snprintf(go_name, sizeof go_name, "/guest-go-%ld", (long)getpid());
    snprintf(gone_name, sizeof gone_name, "/guest-gone-%ld", (long)getpid());
    named = sem_open(semaphore_name, O_CREAT | O_EXCL, 0600, 3);
    nameless = sem_open(go_name, O_CREAT | O_EXCL, 0600, 5);
    sem_unlink(go_name);
    go = sem_open(go_name, O_CREAT | O_EXCL, 0600, 0);
    gone = sem_open(gone_name, O_CREAT | O_EXCL, 0600, 0);
    sem_unlink(gone_name);
    if (named == SEM_FAILED || nameless == SEM_FAILED || go == SEM_FAILED || gone == SEM_FAILED || pthread_create(&thread, NULL, wait_for_go, NULL))
        bad("sem_open: %s", strerror(errno));
}

static int mode_and_size(int fd)
{
    struct stat status;
    return !fstat(fd, &status) && status.st_size == SIZE && (status.st_mode & 0777) == 0620;
}

static void look_at_memory(struct memory *memory, long tick)
{
    char got[64] = "";
    int fd = shm_open(memory->name, O_RDONLY, 0);

    if ((fd >= 0) != (!memory->unlink || memory->again))
        bad("%s: its name", memory->what);
    if (fd >= 0 && !memory->again && (!mode_and_size(fd) || pread(fd, got, sizeof got, GUEST_PAGE) != sizeof got || strcmp(got, memory->what)))
        bad("%s: what is under its name", memory->what);
    if (memory->again && (read(fd, got, sizeof got) != 6 || strcmp(got, "other")))
        bad("%s: the other one of its name", memory->what);
    close(fd);
    if (memory->keep_open && (!mode_and_size(memory->fd) || pread(memory->fd, got, sizeof got, GUEST_PAGE) != sizeof got || strcmp(got, memory->what)))
        bad("%s: what is open", memory->what);
    if (!memory->bytes)
        return;
    if (strcmp(memory->bytes + GUEST_PAGE, memory->what) || *(long *)memory->bytes != tick)
        bad("%s: what is mapped: %ld at %ld", memory->what, *(long *)memory->bytes, tick);
    (*(long *)memory->bytes)++;
    if (memory->keep_open && (pread(memory->fd, &tick, sizeof tick, 0) != sizeof tick || tick != *(long *)memory->bytes))
        bad("%s: open and mapped differ", memory->what);
}

static void look_at_semaphores(long tick)
{
    sem_t *same = sem_open(semaphore_name, 0);
    int value, other;

    if (same == SEM_FAILED || sem_getvalue(named, &value) || value != 3 + (int)(tick & 1) || sem_getvalue(same, &other) || other != value)
        bad("a semaphore: %d and %d at %ld", value, other, tick);
    sem_close(same);
    if (tick & 1 ? sem_trywait(named) : sem_post(named))
        bad("a semaphore: %s", strerror(errno));
    if (sem_getvalue(nameless, &other) || other != 5)
        bad("a semaphore without a name: %d", other);
    sem_post(go);
    sem_wait(gone);
    if (served != tick + 1)
        bad("the waiting thread: %ld at %ld", served, tick);
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 1);

    for (int i = 0; i < MEMORIES; i++)
        begin_memory(i);
    begin_semaphores();
    ready();
    for (long tick = 0; tick < ticks || is_held(); tick++) {
        for (int i = 0; i < MEMORIES; i++)
            look_at_memory(&memories[i], tick);
        look_at_semaphores(tick);
        tick_sleep();
    }
    for (int i = 0; i < MEMORIES; i++)
        shm_unlink(memories[i].name);
    sem_unlink(semaphore_name);
    sem_unlink(go_name);
    puts("OK posix_shm");
    return 0;
}
