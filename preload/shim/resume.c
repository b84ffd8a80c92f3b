/* SPDX-License-Identifier: MIT */
/* Running on: the interrupted system call, and the first moments after a restart. Island: no libc. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "../../core/floor/arch/x86_64/raw_call.h"
#include "../../core/floor/arch/x86_64/rest_of_call.h"
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "deadline.h"
#include "shim.h"

/* Will a signal of the program's, pending now, be delivered to this thread when the handler returns, and end its system
 * call? One that waits for the process ends that of one thread only, see waiting_claim(). With `restarts` the kernel has set
 * the call to be made again, and a handler with SA_RESTART leaves it so. */
static int program_signal_ends(const ucontext_t *frame, int restarts)
{
    uint64_t pending = stop_pending(), mask;

    __builtin_memcpy(&mask, &frame->uc_sigmask, sizeof mask);
    pending &= ~mask & ~SYS_SIGNAL_BIT(STOP_SIGNAL);
    for (int number = 1; number <= AGENT_SIGNALS; number++) {
        struct agent_action action;
        if (!(pending & SYS_SIGNAL_BIT(number)) || sys_rt_sigaction(number, NULL, &action))
            continue;
        if (action.handler == (uint64_t)SIG_DFL || action.handler == (uint64_t)SIG_IGN ||
            (number == (int)shim.trigger_signal && !shim.trigger_owned))
            continue;
        if (restarts && action.flags & SA_RESTART)
            return 0;
        if (waiting_claim(number))
            return 1;
    }
    return 0;
}

/* Code is fetched by a system call, since it may lie at an edge of what is mapped. */
int resume_fetch(uint64_t address, void *to, size_t length)
{
    struct iovec here = { .iov_base = to, .iov_len = length }, there = { .iov_base = (void *)address, .iov_len = length };
    return SYS_CALL(process_vm_readv, shim.pid, &here, 1, &there, 1, 0) == (long)length;
}

static int is_system_call(uint64_t rip)
{
    uint8_t code[2];
    return resume_fetch(rip, code, sizeof code) && code[0] == 0x0f && code[1] == 0x05;
}

/* The calls that signal(7) says are never restarted after a handler and that may be made again: nothing has happened
 * yet when they give EINTR. close() is not among them. */
static int may_go_on(int32_t number)
{
    static const uint16_t known[] = {
        SYS_poll, SYS_select, SYS_pause, SYS_nanosleep, SYS_accept, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg,
        SYS_semop, SYS_msgsnd, SYS_msgrcv, SYS_rt_sigtimedwait, SYS_rt_sigsuspend, SYS_futex, SYS_io_getevents,
        SYS_semtimedop, SYS_clock_nanosleep, SYS_epoll_wait, SYS_pselect6, SYS_ppoll, SYS_epoll_pwait, SYS_accept4,
        SYS_recvmmsg, SYS_sendmmsg, SYS_connect, SYS_read, SYS_readv, SYS_write, SYS_writev, 333 /* io_pgetevents */, 426 /* io_uring_enter */, 441 /* epoll_pwait2 */,
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i] == number)
            return 1;
    return 0;
}

/* Calls that the kernel restarts whatever the handler says (ERESTARTNOINTR): fork and its kin, and futexes for PI. */
static int may_end(greg_t number)
{
    return number != SYS_clone && number != SYS_fork && number != SYS_vfork && number != SYS_clone3 && number != SYS_futex;
}

/* The length of a `mov` between registers, or between a register and the stack, at code; 0: something else. */
static size_t move_length(const uint8_t *code)
{
    size_t length = (code[0] & 0xf0) == 0x40; /* REX */
    uint8_t mode, base;

    if (code[length] != 0x8b && code[length] != 0x89)
        return 0;
    mode = code[length + 1] >> 6;
    base = code[length + 1] & 7;
    length += 2 + (mode != 3 && base == 4); /* SIB */
    if (mode == 1)
        return length + 1;
    return mode == 2 ? length + 4 : mode == 3 ? length : 0;
}

enum { LOOK_BACK = 32 };

/* Of a call made by syscall(), which is ours (wrap/system_call.c). */
static int32_t number_kept(uint64_t pointer, int (*is_meant)(int32_t number))
{
    uint64_t number;
    return resume_fetch(pointer + RAW_CALL_NUMBER, &number, sizeof number) && is_meant((int32_t)number) ? (int32_t)number : -1;
}

/* Length of what loads %eax with a number there, `mov imm32, %eax` or `xor %eax, %eax`; 0: something else. Behind a REX prefix
 * both would be of another register. */
static size_t number_length(const uint8_t *code, size_t start, int32_t *ret_number)
{
    if ((code[start - 1] & 0xf0) == 0x40)
        return 0;
    *ret_number = 0;
    if ((code[start] == 0x31 || code[start] == 0x33) && code[start + 1] == 0xc0)
        return 2;
    __builtin_memcpy(ret_number, code + start + 1, sizeof *ret_number);
    return code[start] == 0xb8 ? 5 : 0;
}

/* The number that was last loaded before the `syscall` that ends at rip, with only moves of arguments between
 * them, as libc's wrappers have it; -1 for other code, and for calls that are not meant. */
static int32_t number_before(uint64_t rip, uint64_t pointer, int (*is_meant)(int32_t number))
{
    uint8_t code[LOOK_BACK + 16] = { 0 };
    const size_t end = LOOK_BACK - 2;

    if (rip == shim.raw_call_end)
        return number_kept(pointer, is_meant);
    if (!is_system_call(rip - 2) || !resume_fetch(rip - LOOK_BACK, code, LOOK_BACK))
        return -1;
    for (size_t start = end - 2; start > 0; start--) {
        int32_t number;
        size_t length = number_length(code, start, &number), at = start + length;
        if (!length)
            continue;
        while (at < end && (length = move_length(code + at)))
            at += length;
        if (at == end && is_meant(number))
            return number;
    }
    return -1;
}

static int may_be_short(int32_t number)
{
    return number == SYS_read || number == SYS_write || number == SYS_sendto || number == SYS_recvfrom;
}

/* Of a receiving call only with MSG_WAITALL; what was peeked at would be peeked at again. */
static int waits_for_all(int32_t number, greg_t flags)
{
    if (number == SYS_recvfrom)
        return (flags & (MSG_WAITALL | MSG_PEEK | MSG_DONTWAIT)) == MSG_WAITALL;
    return number == SYS_write || !(flags & MSG_DONTWAIT);
}

static int stream_waits(int fd, int32_t number, greg_t flags)
{
    int option = number == SYS_recvfrom ? SO_RCVTIMEO : SO_SNDTIMEO;
    struct timeval patience = { 0 };
    int type = 0;
    unsigned type_length = sizeof type, length = sizeof patience;

    return waits_for_all(number, flags) && !SYS_CALL(getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &type_length, 0) && type == SOCK_STREAM &&
           !SYS_CALL(getsockopt, fd, SOL_SOCKET, option, &patience, &length, 0) && !patience.tv_sec && !patience.tv_usec;
}

/* Does such a call go on until all is done, unless a signal comes? pipe(7), send(2), recv(2), random(4). */
static int does_all(int fd, int32_t number, greg_t flags)
{
    enum { MEMORY_DEVICES = 1 }; /* random and urandom are numbers 8 and 9 of them: admin-guide/devices.txt */
    struct stat status;
    long how = SYS_CALL(fcntl, fd, F_GETFL, 0, 0, 0, 0);

    if (how < 0 || how & O_NONBLOCK || SYS_CALL(fstat, fd, &status, 0, 0, 0, 0))
        return 0;
    if (number == SYS_read)
        return S_ISCHR(status.st_mode) && (status.st_rdev == (MEMORY_DEVICES << 8 | 8) || status.st_rdev == (MEMORY_DEVICES << 8 | 9));
    return number == SYS_write && S_ISFIFO(status.st_mode) ? 1 : S_ISSOCK(status.st_mode) && stream_waits(fd, number, flags);
}

/* A write that had to wait, with some bytes already written, or a read of all bytes that were asked for, is ended by a signal with the number of these: programs that know
 * of no signal do not expect that. The frame is led to rest_of_call.S, which does the rest. */
static void do_the_rest(ucontext_t *frame)
{
    greg_t *registers = frame->uc_mcontext.gregs;
    int32_t number = number_before((uint64_t)registers[REG_RIP], (uint64_t)registers[REG_RSP], may_be_short);

    if (number < 0 || !does_all((int)registers[REG_RDI], number, registers[REG_R10]) || program_signal_ends(frame, 0))
        return;
    registers[REG_R11] = registers[REG_RAX];
    registers[REG_RIP] = (greg_t)(number == SYS_read    ? rest_of_read
                                  : number == SYS_write ? rest_of_write
                                  : number == SYS_sendto ? rest_of_sendto
                                                         : rest_of_recvfrom);
}

/* Our handler has SA_RESTART, yet the kernel gives EINTR from some calls all the same (signal(7)): sleeps, poll,
 * select, futexes with a timeout, and more. Going back to the `syscall` instruction makes each go on, as measured.
 * Such a frame has rax == -EINTR and, as `syscall` leaves them, rcx == rip.
 *
 * When a signal of the program's has arrived meanwhile, the call must end as it would have ended without us: also one
 * that the kernel has already set to restart (rip at the instruction, the address behind it still in rcx). */
void resume_settle(ucontext_t *frame)
{
    greg_t *registers = frame->uc_mcontext.gregs;

    if (registers[REG_R11] != registers[REG_EFL])
        return; /* not fresh from a system call */
    if (registers[REG_RCX] == registers[REG_RIP] && registers[REG_RAX] == -EINTR) {
        int32_t number = number_before((uint64_t)registers[REG_RIP], (uint64_t)registers[REG_RSP], may_go_on);
        if (number < 0 || program_signal_ends(frame, 0))
            return;
        registers[REG_RAX] = number;
        registers[REG_RIP] -= 2;
        deadline_apply(frame, number);
    } else if (registers[REG_RCX] == registers[REG_RIP] && registers[REG_RAX] > 0 && registers[REG_RAX] < registers[REG_RDX]) {
        do_the_rest(frame);
    } else if (registers[REG_RCX] == registers[REG_RIP] + 2 && registers[REG_RAX] >= 0 &&
               may_end(registers[REG_RAX]) &&
               is_system_call((uint64_t)registers[REG_RIP]) && program_signal_ends(frame, 1)) {
        registers[REG_RAX] = -EINTR;
        registers[REG_RIP] += 2;
    }
}

void resume_die(const char *what, long error)
{
    char line[160];
    size_t at = text_add(line, sizeof line, 0, "stasis: restart failed: ");

    sys_write(2, line, text_add_error(line, sizeof line, at, what, error));
    sys_exit_group(EXIT_INTERNAL);
}

/* The main thread makes the program's timers, and each thread queues the signals that waited for it; all signals are
 * blocked. The thread of slot 0 makes page and timer again, the others wait for it. The arena of the last stage goes when
 * every thread has left it. */
void resume_after_restart(int leader)
{
    uint32_t count, here = (uint32_t)shim.note.restarts, gate;

    if (sys_gettid() == sys_getpid())
        timers_make(&shim.note);
    waiting_queue(&shim.note);
    count = __atomic_add_fetch(&shim.awake, 1, __ATOMIC_SEQ_CST);
    sys_futex(&shim.awake, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
    if (leader) {
        while (count < shim.note.threads) {
            sys_futex(&shim.awake, FUTEX_WAIT_PRIVATE, count, NULL);
            count = __atomic_load_n(&shim.awake, __ATOMIC_SEQ_CST);
        }
        jobs_stop_children(&shim.note);
        sys_munmap((void *)shim.note.arena_start, shim.note.arena_length);
        shim.awake = 0;
        cpu_clocks_go_on();
        for (int i = 0; i < MAX_HELPERS; i++)
            shim.helpers[i] = 0;
        shim.starting = shim.remaking = 0;
        if (shim.stderr_held)
            stop_note_stderr(); /* that of the restart */
        shim.generation = shim.note.generation;
        shim.place.roll = shim.note.roll;
        shim.vdso = (struct agent_range){ shim.note.vdso_start, shim.note.vdso_end };
        shim.pid_namespace = 0; /* another one */
        if (shim.note.is_bound)
            __builtin_memcpy(shim.given_cpus, shim.note.given_cpus, sizeof shim.given_cpus);
        page_make();
        interval_start();
        for (int i = 0; i < NOTE_LIMITS; i++)
            SYS_CALL(prlimit64, 0, i, shim.note.limits[i], 0, 0, 0);
        if (shim.note.stop)
            jobs_come_back(&shim.note);
        __atomic_store_n(&shim.gate, here, __ATOMIC_SEQ_CST);
        sys_futex(&shim.gate, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
        return;
    }
    while ((gate = __atomic_load_n(&shim.gate, __ATOMIC_SEQ_CST)) != here)
        sys_futex(&shim.gate, FUTEX_WAIT_PRIVATE, gate, NULL);
}
