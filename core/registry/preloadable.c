/* SPDX-License-Identifier: MIT */
#include "preloadable.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct refusal fine = { NULL, NULL };

static int is_program(const char *path)
{
    struct stat status;

    return !stat(path, &status) && S_ISREG(status.st_mode) && !access(path, X_OK);
}

/* As execvp searches: 0 and the path, or -1. */
static int find_program(const char *command, char path[MAX_PATH])
{
    const char *search = getenv("PATH");

    if (strchr(command, '/')) {
        snprintf(path, MAX_PATH, "%s", command);
        return is_program(path) ? 0 : -1;
    }
    for (search = search ? search : "/bin:/usr/bin"; search; search = strchr(search, ':')) {
        search += *search == ':';
        int length = (int)strcspn(search, ":");
        /* An empty entry is the current directory. */
        snprintf(path, MAX_PATH, "%.*s%s%s", length, search, length ? "/" : "", command);
        if (is_program(path))
            return 0;
    }
    return -1;
}

/* The loader drops LD_PRELOAD where exec changes privileges (ld.so(8), "Secure-execution mode"). The mode bits are
 * refused for everybody alike; file capabilities change nothing for root. */
static int changes_privileges(const char *path)
{
    struct stat status;

    if (!stat(path, &status) && (status.st_mode & (S_ISUID | S_ISGID)))
        return 1;
    return geteuid() && getxattr(path, "security.capability", NULL, 0) > 0;
}

static int has_loader(int file, const Elf64_Ehdr *header)
{
    Elf64_Phdr segment;

    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (pread(file, &segment, sizeof segment, (off_t)(header->e_phoff + i * sizeof segment)) != sizeof segment)
            return 0;
        if (segment.p_type == PT_INTERP)
            return 1;
    }
    return 0;
}

/* Our own executable tells which machine libstasis.so is for. */
static int same_machine(const Elf64_Ehdr *header)
{
    Elf64_Ehdr own = { 0 };
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int is_read = file >= 0 && pread(file, &own, sizeof own, 0) == sizeof own;

    if (file >= 0)
        close(file);
    return !is_read || (own.e_machine == header->e_machine && own.e_ident[EI_CLASS] == header->e_ident[EI_CLASS]);
}

static struct refusal check_binary(int file, const char *path, const Elf64_Ehdr *header)
{
    if (changes_privileges(path))
        return (struct refusal){ "R-SETUID", "is setuid, setgid or has file capabilities" };
    if (!same_machine(header))
        return (struct refusal){ "R-MACHINE", "is built for another kind of machine" };
    if (!has_loader(file, header))
        return (struct refusal){ "R-STATIC", "is statically linked" };
    return fine;
}

/* Takes the interpreter out of "#! /bin/sh -e": 0, or -1 when it is no script. */
static int read_interpreter(int file, char path[MAX_PATH])
{
    char line[256] = "";

    if (pread(file, line, sizeof line - 1, 0) < 3 || memcmp(line, "#!", 2))
        return -1;
    return sscanf(line + 2, "%*[ \t]%255[^ \t\n]", path) == 1 || sscanf(line + 2, "%255[^ \t\n]", path) == 1 ? 0 : -1;
}

static struct refusal check_file(char path[MAX_PATH], int may_be_script)
{
    Elf64_Ehdr header = { 0 };
    struct refusal refusal = fine;
    int file = open(path, O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return fine;
    if (pread(file, &header, sizeof header, 0) >= (ssize_t)sizeof(Elf32_Ehdr) && !memcmp(header.e_ident, ELFMAG, SELFMAG))
        refusal = check_binary(file, path, &header);
    else if (may_be_script && !read_interpreter(file, path))
        refusal = check_file(path, 0);
    close(file);
    return refusal;
}

struct refusal preloadable_check(const char *command, char ret_file[MAX_PATH])
{
    return find_program(command, ret_file) ? fine : check_file(ret_file, 1);
}
