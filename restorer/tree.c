/* SPDX-License-Identifier: MIT */
/* Who makes whom. A process inherits its session from the one that makes it, and its parent is the one that made it, or, when that
 * has ended, the next subreaper or the keeper. So:
 *
 * - a child in its parent's session is made by that, after it has begun its session if it is the leader;
 * - a child in the session that its parent had before it began its own is made before;
 * - an orphan is made by somebody in its session, through a process in between that ends; or, when nobody is left
 *   there, by a stand-in for the leader. */
#include "tree.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bubble_private.h"

struct node {
    pid_t pid, parent, session, group;
    int exit_signal;
    enum { NODE_PROCESS, NODE_ENDED, NODE_STAND_IN } type;
    uint32_t index;     /* NODE_PROCESS: of the process */
    const struct ended_child *ended;
    size_t maker;       /* a node; the task itself has none */
    int is_adopted;     /* made through one in between, that ends */
    int is_sibling;     /* of the task: a child of the keeper */
    int before_session; /* made before its maker begins its own session */
    pid_t wanted;       /* of a leader: the session that it must have been in before; 0: any */
};

#define NO_NODE SIZE_MAX

enum { CLONE_TRIES = 2000, LOOK_SECONDS = 1 };

/* ---- the plan ---- */

static size_t find(const struct tree *tree, pid_t pid)
{
    for (size_t i = 0; i < tree->node_count; i++)
        if (tree->nodes[i].pid == pid)
            return i;
    return NO_NODE;
}

static int is_leader(const struct node *node)
{
    return node->session == node->pid;
}

static void add(struct tree *tree, struct node node)
{
    tree->nodes[tree->node_count++] = node;
}

/* One for each process, and each that has ended; room for as many stand-ins. */
static int add_nodes(struct tree *tree)
{
    size_t room = 0;

    for (uint32_t i = 0; i < tree->count; i++)
        room += 1 + tree->processes[i].ended_count;
    tree->nodes = calloc(2 * room, sizeof *tree->nodes);
    if (!tree->nodes)
        return -ENOMEM;
    for (uint32_t i = 0; i < tree->count; i++) {
        const struct restoring *process = &tree->processes[i];
        add(tree, (struct node){ .pid = process->pid, .parent = process->parent, .session = process->session, .group = process->group,
                                 .exit_signal = process->exit_signal, .type = NODE_PROCESS, .index = i });
    }
    for (uint32_t i = 0; i < tree->count; i++)
        for (size_t j = 0; j < tree->processes[i].ended_count; j++) {
            const struct ended_child *child = &tree->processes[i].ended[j];
            add(tree, (struct node){ .pid = child->pid, .parent = tree->processes[i].pid, .session = child->session, .group = child->group,
                                     .exit_signal = child->exit_signal, .type = NODE_ENDED, .ended = child });
        }
    for (size_t i = 1; i < tree->node_count; i++)
        if (find(tree, tree->nodes[i].pid) != i || tree->nodes[i].pid < 2)
            return -EBADMSG;
    return 0;
}

/* A child in another session than its parent, which leads its own, was made before that: so the parent must have been in it, and
 * so on upwards. */
static void want_sessions(struct tree *tree, size_t child)
{
    pid_t session = tree->nodes[child].session;

    while (!is_leader(&tree->nodes[child]) || tree->nodes[child].wanted) {
        size_t parent = find(tree, tree->nodes[child].parent);
        if (parent == NO_NODE || !parent || tree->nodes[parent].session == session || !is_leader(&tree->nodes[parent]) || tree->nodes[parent].wanted)
            return;
        tree->nodes[parent].wanted = session;
        child = parent;
    }
}

/* Somebody who is in that session: its leader, or a stand-in for that, who has the same parent as the orphan. */
static size_t session_of_orphan(struct tree *tree, const struct node *orphan)
{
    size_t leader = find(tree, orphan->session);

    if (leader != NO_NODE)
        return leader;
    add(tree, (struct node){ .pid = orphan->session, .parent = orphan->parent, .session = orphan->session, .group = orphan->session,
                             .exit_signal = SIGCHLD, .type = NODE_STAND_IN });
    return tree->node_count - 1;
}

/* The session that the task is in from the outside, if it leads none itself. */
static int is_in_tasks_session(const struct tree *tree, const struct node *node)
{
    return !is_leader(&tree->nodes[0]) && node->session == tree->nodes[0].session;
}

static void plan_orphan(struct tree *tree, size_t at)
{
    struct node *node = &tree->nodes[at];

    if (node->parent && find(tree, node->parent) == NO_NODE && (is_leader(node) || is_in_tasks_session(tree, node))) {
        node->maker = 0;
        node->is_sibling = 1;
        return;
    }
    size_t maker = is_in_tasks_session(tree, node) ? 0 : session_of_orphan(tree, node);
    node->maker = maker;
    node->is_adopted = tree->nodes[maker].type == NODE_PROCESS;
}

static void plan_node(struct tree *tree, size_t at)
{
    struct node *node = &tree->nodes[at];
    size_t parent = find(tree, node->parent);
    const struct node *above = parent == NO_NODE ? NULL : &tree->nodes[parent];
    pid_t session = is_leader(node) ? node->wanted : node->session;

    node->maker = parent;
    if (above && (session == above->session || (is_leader(node) && !session)))
        return;
    if (above && is_leader(above) && above->wanted == session)
        node->before_session = 1;
    else if (above && is_leader(node))
        return; /* what it was in before cannot be had: nobody can tell */
    else
        plan_orphan(tree, at);
}

int tree_plan(struct tree *tree)
{
    int error = add_nodes(tree);

    for (size_t i = 1; !error && i < tree->node_count; i++)
        if (!is_leader(&tree->nodes[i]))
            want_sessions(tree, i);
    for (size_t i = 1; !error && i < tree->node_count; i++) /* stand-ins are added on the way */
        plan_node(tree, i);
    return error;
}

/* ---- together ---- */

/* Of those that wait for a word each has bits, by which it is woken. */
static int wait_a_while(uint32_t *word, uint32_t value, uint32_t bits)
{
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += LOOK_SECONDS;
    return syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, &end, NULL, bits) && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

static void wake(uint32_t *word, uint32_t bits)
{
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, bits);
}

static int is_first_to_fail(struct tree *tree, int status)
{
    uint32_t none = 0;

    return __atomic_compare_exchange_n(&tree->together->failed, &none, (uint32_t)status, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

_Noreturn void tree_fail(struct tree *tree, const struct restoring *own, int status)
{
    is_first_to_fail(tree, status);
    if (own && own->index == 0 && !tree->is_on_host)
        kill(-1, SIGKILL); /* all but the keeper and ourselves */
    _exit((int)tree->together->failed);
}

/* One that was killed comes to no barrier any more: its parent, or the task, would wait for ever. */
static int is_somebody_dead(const struct tree *tree)
{
    for (size_t i = 1; i < tree->node_count; i++)
        if (tree->nodes[i].type == NODE_PROCESS && proc_has_ended(tree->nodes[i].pid))
            return 1;
    return 0;
}

/* Until *word is `value`. */
static int await(struct tree *tree, const struct restoring *own, uint32_t *word, uint32_t value, uint32_t bits)
{
    uint32_t now;

    while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != value && !__atomic_load_n(&tree->together->failed, __ATOMIC_SEQ_CST))
        if (wait_a_while(word, now, bits) == -ETIMEDOUT && own && own->index == 0 &&
            __atomic_load_n(&tree->together->arrived[STAGE_BORN], __ATOMIC_SEQ_CST) == tree->together->all && is_somebody_dead(tree) &&
            is_first_to_fail(tree, EXIT_SYSTEM))
            fprintf(stderr, "stasis: restart: one of the processes was killed while it came back\n");
    return (int)tree->together->failed;
}

static int meet(struct tree *tree, const struct restoring *own, enum stage stage, uint32_t all)
{
    uint32_t *arrived = &tree->together->arrived[stage];

    if (__atomic_add_fetch(arrived, 1, __ATOMIC_SEQ_CST) == all)
        wake(arrived, FUTEX_BITSET_MATCH_ANY);
    return await(tree, own, arrived, all, FUTEX_BITSET_MATCH_ANY);
}

int tree_meet(struct tree *tree, const struct restoring *own, enum stage stage)
{
    return meet(tree, own, stage, tree->count);
}

/* Of many only a few are woken for each turn. */
static uint32_t bit_of(uint32_t turn)
{
    return UINT32_C(1) << turn % 32;
}

int tree_await_turn(struct tree *tree, const struct restoring *own)
{
    return await(tree, own, &tree->together->turn, own->index, bit_of(own->index));
}

void tree_end_turn(struct tree *tree)
{
    uint32_t next = __atomic_add_fetch(&tree->together->turn, 1, __ATOMIC_SEQ_CST);
    wake(&tree->together->turn, bit_of(next));
}

static int make_together(struct tree *tree)
{
    struct last_together *together = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    static_assert(sizeof *together <= PAGE_BYTES && (int)STAGE_COUNT <= (int)LAST_STAGES, "fits");
    if (together == MAP_FAILED)
        return -errno;
    together->processes = tree->count;
    for (size_t i = 0; i < tree->node_count; i++)
        together->all += tree->nodes[i].type != NODE_STAND_IN;
    tree->together = together;
    return 0;
}

/* ---- growing ---- */

/* A number may still be that of one in between, for a moment. */
static pid_t clone_node(const struct node *node)
{
    uint64_t flags = node->is_sibling ? CLONE_PARENT : 0;
    pid_t pid = -EEXIST;

    for (int tries = 0; pid == -EEXIST && tries < CLONE_TRIES; tries++) {
        pid = bubble_clone(flags, node->pid, node->is_sibling ? 0 : node->exit_signal, NULL);
        if (pid == -EEXIST)
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    return pid;
}

/* Says once for all why it cannot go on. */
_Noreturn static void fail_in(struct tree *tree, const struct node *node, const char *what, int error)
{
    if (is_first_to_fail(tree, EXIT_SYSTEM))
        fprintf(stderr, "stasis: restart: process %d %s: %s\n", node->pid, what, strerror(error));
    tree_fail(tree, node->type == NODE_PROCESS ? &tree->processes[node->index] : NULL, EXIT_SYSTEM);
}

/* 1 in the new process. */
static int make(struct tree *tree, size_t at)
{
    const struct node *node = &tree->nodes[at];
    pid_t between = node->is_adopted ? bubble_clone(0, 0, SIGCHLD, NULL) : 0, pid;

    if (between > 0) {
        waitpid(between, NULL, 0);
        return 0;
    }
    pid = between ? between : clone_node(node);
    if (pid < 0)
        fail_in(tree, node, "cannot be made", -pid);
    if (pid && node->is_adopted)
        _exit(0);
    return !pid;
}

static int has_orphans(const struct tree *tree, const struct node *node)
{
    for (size_t i = 0; i < tree->node_count; i++)
        if (tree->nodes[i].parent == node->pid && &tree->nodes[tree->nodes[i].maker] != node && i)
            return 1;
    return 0;
}

/* In its session, if it leads one; its terminal is inherited by those that it makes from now on. */
static void begin_session(struct tree *tree, size_t at)
{
    const struct node *node = &tree->nodes[at];
    struct restoring task = tree->processes[0];
    int error = 0;

    if (at && setsid() < 0) /* the task is in its own already */
        fail_in(tree, node, "cannot begin its session", errno);
    task.pid = node->pid;
    if (node->type == NODE_PROCESS)
        error = terminals_take_control(&task);
    if (error)
        fail_in(tree, node, "cannot have its controlling terminal", -error);
}

/* The node that the calling process is now: another one than before in a new process, and NO_NODE when there is nothing left to make. */
static size_t make_next(struct tree *tree, size_t at)
{
    const struct node *node = &tree->nodes[at];

    if (has_orphans(tree, node))
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* the last stage sets it as it was */
    for (int before = 1; before >= 0; before--) {
        if (!before && is_leader(node))
            begin_session(tree, at);
        for (size_t i = 1; i < tree->node_count; i++)
            if (tree->nodes[i].maker == at && tree->nodes[i].before_session == before && make(tree, i))
                return i;
    }
    return NO_NODE;
}

/* ---- process groups ---- */

/* The task may be in a group of the outside, and others with it. */
static int is_in_tasks_group(const struct tree *tree, const struct node *node)
{
    return node->group == tree->nodes[0].group && tree->nodes[0].group != tree->nodes[0].pid && find(tree, node->group) == NO_NODE;
}

static int is_first_of_group(const struct tree *tree, const struct node *node)
{
    const struct node *first = tree->nodes;

    while (first->group != node->group || first->type == NODE_STAND_IN)
        first++;
    return first == node;
}

/* A group whose leader has ended: somebody has to lead it for as long as it takes to join. */
static void make_group(struct tree *tree, const struct node *node)
{
    const struct node leader = { .pid = node->group, .exit_signal = SIGCHLD };
    pid_t pid = clone_node(&leader);

    if (!pid)
        for (;;)
            pause();
    if (pid < 0 || setpgid(pid, pid) || setpgid(0, pid))
        fail_in(tree, node, "cannot join its process group", pid < 0 ? -pid : errno);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int join_group(struct tree *tree, size_t at)
{
    const struct node *node = &tree->nodes[at];
    const struct restoring *own = node->type == NODE_PROCESS ? &tree->processes[node->index] : NULL;
    int is_set = is_leader(node) || is_in_tasks_group(tree, node), status;

    if (!is_set && node->group == node->pid && setpgid(0, 0))
        fail_in(tree, node, "cannot lead its process group", errno);
    if ((status = meet(tree, own, STAGE_LED, tree->together->all)))
        return status;
    if (!is_set && getpgrp() != node->group && find(tree, node->group) == NO_NODE && is_first_of_group(tree, node))
        make_group(tree, node);
    if ((status = meet(tree, own, STAGE_GROUPED, tree->together->all)))
        return status;
    if (!is_set && getpgrp() != node->group && setpgid(0, node->group))
        fail_in(tree, node, "cannot join its process group", errno);
    return 0;
}

/* ---- the whole ---- */

/* Those that have ended do so now, before anybody could be told of it. */
static void await_ended(struct tree *tree, const struct node *node)
{
    siginfo_t info;

    for (size_t i = 0; i < tree->node_count; i++)
        if (tree->nodes[i].type == NODE_ENDED && tree->nodes[i].parent == node->pid)
            while (waitid(P_PID, (id_t)tree->nodes[i].pid, &info, WEXITED | WNOWAIT | __WALL) && errno == EINTR)
                ;
    for (int signal = 1; signal <= 64; signal++)
        bubble_forget(signal);
}

/* A stand-in may need a moment to end, and its children are somebody else's then. */
static void verify(struct tree *tree, const struct node *node)
{
    pid_t parent = find(tree, node->parent) == NO_NODE ? bubble_keeper() : node->parent;

    for (int tries = 0; getppid() != parent && tries < CLONE_TRIES; tries++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    if (getppid() != parent || (!is_in_tasks_session(tree, node) && getsid(0) != node->session) ||
        (!is_in_tasks_group(tree, node) && getpgrp() != node->group))
        fail_in(tree, node, "does not get its place in the tree", EINVAL);
}

/* Without the rights that the bubble gives, and dumpable: others may not see the status of one that had more than they. */
_Noreturn static void end(const struct node *node)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[2] = { 0 };

    prctl(PR_SET_NAME, node->ended->name, 0, 0, 0);
    syscall(SYS_capset, &header, none);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    bubble_mirror(node->ended->status);
}

void tree_take_place(struct restoring *to, const struct restoring *from)
{
    to->index = from->index;
    to->pid = from->pid;
    to->parent = from->parent;
    to->session = from->session;
    to->group = from->group;
    to->exit_signal = from->exit_signal;
    to->has_terminal = from->has_terminal;
    to->ended = from->ended;
    to->ended_count = from->ended_count;
}

/* What `make` has made is the task's. What there is to say, the task says. */
static struct restoring *adopt(struct tree *tree, const struct node *node)
{
    struct restoring *own = &tree->processes[node->index], made = tree->processes[0];

    if (!node->index)
        return own;
    tree_take_place(&made, own);
    made.adapted = (struct buffer){ 0 };
    *own = made;
    close(*bubble_descriptor());
    *bubble_descriptor() = -1;
    return own;
}

int tree_grow(struct tree *tree, struct restoring **ret_own)
{
    size_t at = 0, next;
    int error = make_together(tree), status;

    if (error)
        return EXIT_SYSTEM;
    while ((next = make_next(tree, at)) != NO_NODE)
        at = next;
    struct node *node = &tree->nodes[at];
    if (node->type == NODE_STAND_IN)
        _exit(0);
    if (node->type == NODE_PROCESS)
        *ret_own = adopt(tree, node);
    if ((status = meet(tree, node->type == NODE_PROCESS ? *ret_own : NULL, STAGE_BORN, tree->together->all)) || (status = join_group(tree, at)))
        _exit(status);
    if (node->type == NODE_ENDED)
        end(node);
    await_ended(tree, node);
    verify(tree, node);
    return 0;
}
