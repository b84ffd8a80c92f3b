/* SPDX-License-Identifier: MIT */
/* posix_queue SECONDS [full|notify]: POSIX message queues, with and without their names. A thread waits for messages
 * all the time. None is sent while the guest is held: nothing is in the queues then. `full`: messages of several priorities lie in
 * one, and no more fit; `notify`: one has somebody to notify. */
#include "guest.h"

#include <mqueue.h>
#include <pthread.h>
#include <sys/stat.h>

static mqd_t questions, answers, again, nameless, vain;
static char vain_name[64], question_name[64], answer_name[64], nameless_name[64];

static mqd_t make(char *name, size_t size, const char *what, int flags)
{
    struct mq_attr attributes = { .mq_maxmsg = 4, .mq_msgsize = 64 };
    mqd_t made;

    snprintf(name, size, "/guest-%s-%ld", what, (long)getpid());
    made = mq_open(name, O_CREAT | O_EXCL | flags, 0640, &attributes);
    if (made == (mqd_t)-1)
        bad("mq_open %s: %s", name, strerror(errno));
    return made;
}

static void *answer(void *none)
{
    char text[64];
    unsigned priority;

    for (;;) {
        ssize_t got = mq_receive(questions, text, sizeof text, &priority);
        if (got < 0 || mq_send(answers, text, (size_t)got, priority + 1))
            bad("the waiting thread: %s", strerror(errno));
    }
    return none;
}

/* Never early, and never EINTR. */
static void *wait_in_vain(void *none)
{
    char text[64];

    for (;;) {
        struct timespec time, end;
        clock_gettime(CLOCK_REALTIME, &time);
        time.tv_nsec += 60000000;
        time.tv_sec += time.tv_nsec / 1000000000;
        time.tv_nsec %= 1000000000;
        if (mq_timedreceive(vain, text, sizeof text, NULL, &time) != -1 || errno != ETIMEDOUT)
            bad("a thread that waits in vain: %s", strerror(errno));
        clock_gettime(CLOCK_REALTIME, &end);
        if (end.tv_sec < time.tv_sec || (end.tv_sec == time.tv_sec && end.tv_nsec < time.tv_nsec))
            bad("a thread that waits in vain has waited too short");
    }
    return none;
}

static void look(mqd_t queue, long flags, long messages)
{
    struct mq_attr attributes;
    struct stat status;

    if (mq_getattr(queue, &attributes) || attributes.mq_maxmsg != 4 || attributes.mq_msgsize != 64 ||
        attributes.mq_flags != flags || attributes.mq_curmsgs != messages || fstat(queue, &status) ||
        (status.st_mode & 0777) != 0640)
        bad("attributes: %ld messages, flags %lx", attributes.mq_curmsgs, attributes.mq_flags);
}

static void look_at_all(long messages)
{
    mqd_t same = mq_open(question_name, O_RDONLY), gone = mq_open(nameless_name, O_RDONLY);

    if (same == (mqd_t)-1 || gone != (mqd_t)-1)
        bad("names: %s", strerror(errno));
    look(same, 0, 0);
    look(again, O_NONBLOCK, 0);
    look(nameless, 0, messages);
    mq_close(same);
}

static void talk(long tick)
{
    char text[64], got[64];
    unsigned priority = 0;

    snprintf(text, sizeof text, "%ld", tick);
    if (mq_send(questions, text, strlen(text) + 1, 7) || mq_receive(answers, got, sizeof got, &priority) < 0 ||
        strcmp(text, got) || priority != 8)
        bad("the answer to %s: %s", text, strerror(errno));
    if (mq_receive(again, got, sizeof got, NULL) != -1 || errno != EAGAIN)
        bad("a queue that does not wait: %s", strerror(errno));
}

static const struct {
    const char *text;
    size_t length;
    unsigned priority;
} full[] = { { "first of one", 13, 1 }, { "of thirty", 10, 30 }, { "", 0, 1 }, { "last of one", 12, 1 } };

enum { FULL = sizeof full / sizeof *full };
static const int order[FULL] = { 1, 0, 2, 3 };

static long fill(void)
{
    for (int i = 0; i < FULL; i++)
        if (mq_send(nameless, full[i].text, full[i].length, full[i].priority))
            bad("mq_send: %s", strerror(errno));
    return FULL;
}

static void empty(void)
{
    char got[64];
    unsigned priority;

    for (int i = 0; i < FULL; i++) {
        ssize_t length = mq_receive(nameless, got, sizeof got, &priority);
        if (length != (ssize_t)full[order[i]].length || memcmp(got, full[order[i]].text, (size_t)length) ||
            priority != full[order[i]].priority)
            bad("message %d: %zd bytes of priority %u", i, length, priority);
    }
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 1), messages = 0;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    pthread_t thread;

    questions = make(question_name, sizeof question_name, "question", O_RDWR);
    answers = make(answer_name, sizeof answer_name, "answer", O_RDWR);
    nameless = make(nameless_name, sizeof nameless_name, "nameless", O_RDWR);
    again = mq_open(answer_name, O_RDONLY | O_NONBLOCK);
    mq_unlink(nameless_name);
    vain = make(vain_name, sizeof vain_name, "vain", O_RDONLY);
    mq_unlink(vain_name);
    if (count > 2 && !strcmp(arguments[2], "full"))
        messages = fill();
    else if (count > 2 && mq_notify(nameless, &event))
        bad("mq_notify: %s", strerror(errno));
    if (pthread_create(&thread, NULL, answer, NULL) || pthread_create(&thread, NULL, wait_in_vain, NULL))
        bad("a thread");
    ready();
    while (is_held()) {
        look_at_all(messages);
        usleep(10000);
    }
    for (long tick = 0; tick < ticks; tick++) {
        look_at_all(messages);
        talk(tick);
        tick_sleep();
    }
    if (messages)
        empty();
    mq_unlink(question_name);
    mq_unlink(answer_name);
    puts("OK posix_queue");
    return 0;
}
