/* SPDX-License-Identifier: MIT */
/* The vDSO of another kernel. The old one's bytes come back to their place as ordinary memory, and each of its entries
 * becomes a jump into the new one, which lies elsewhere with its data. Nobody may be in the middle of the old code:
 * the shim lets threads out before they park, and who was inside all the same is named in the image. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../floor/arch/x86_64/redirect.h"
#include "vdso.h"

struct elf {
    const uint8_t *bytes;
    uint64_t length;
    uint64_t load;        /* address that its start was linked to */
    const Elf64_Sym *symbols;
    uint64_t symbol_count;
    const char *names;    /* ends in NUL */
    uint64_t names_length;
};

/* `count` structures of `size` bytes at `offset`, or NULL. */
static const void *table(const struct elf *elf, uint64_t offset, uint64_t count, uint64_t size)
{
    if (offset % 8 || offset > elf->length || count > (elf->length - offset) / size)
        return NULL;
    return elf->bytes + offset;
}

static int find_load(struct elf *elf, const Elf64_Ehdr *header)
{
    const Elf64_Phdr *parts = table(elf, header->e_phoff, header->e_phnum, sizeof *parts);

    for (int i = 0; parts && i < header->e_phnum; i++)
        if (parts[i].p_type == PT_LOAD) {
            elf->load = parts[i].p_vaddr - parts[i].p_offset;
            return 0;
        }
    return -EBADMSG;
}

/* The kernel strips all sections but those that are loaded; .dynsym is one. */
static int find_symbols(struct elf *elf, const Elf64_Ehdr *header)
{
    const Elf64_Shdr *sections = table(elf, header->e_shoff, header->e_shnum, sizeof *sections);

    for (int i = 0; sections && i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM || sections[i].sh_link >= header->e_shnum)
            continue;
        const Elf64_Shdr *names = &sections[sections[i].sh_link];
        elf->symbol_count = sections[i].sh_size / sizeof *elf->symbols;
        elf->symbols = table(elf, sections[i].sh_offset, elf->symbol_count, sizeof *elf->symbols);
        if (names->sh_offset > elf->length || names->sh_size > elf->length - names->sh_offset || !names->sh_size)
            return -EBADMSG;
        elf->names = (const char *)elf->bytes + names->sh_offset;
        elf->names_length = names->sh_size;
        return elf->symbols && !elf->names[elf->names_length - 1] ? 0 : -EBADMSG;
    }
    return -EBADMSG;
}

static int elf_open(struct elf *elf, const uint8_t *bytes, uint64_t length)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)bytes;
    int error;

    *elf = (struct elf){ .bytes = bytes, .length = length };
    if (length < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64)
        return -EBADMSG;
    error = find_load(elf, header);
    return error ? error : find_symbols(elf, header);
}

/* The offset of the function that a symbol names, 0 when it is none. All of it lies inside. */
static uint64_t function_at(const struct elf *elf, const Elf64_Sym *symbol, const char **ret_name)
{
    uint64_t offset = symbol->st_value - elf->load;

    if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_shndx == SHN_UNDEF || symbol->st_name >= elf->names_length ||
        offset > elf->length || symbol->st_size > elf->length - offset)
        return 0;
    *ret_name = elf->names + symbol->st_name;
    return offset;
}

static uint64_t find_function(const struct elf *elf, const char *wanted)
{
    const char *name;

    for (uint64_t i = 0; i < elf->symbol_count; i++) {
        uint64_t offset = function_at(elf, &elf->symbols[i], &name);
        if (offset && !strcmp(name, wanted))
            return offset;
    }
    return 0;
}

/* What a function stands for: vdso(7). */
static int32_t call_number(const char *name)
{
    static const struct {
        const char *name;
        int32_t number;
    } calls[] = {
        { "clock_gettime", SYS_clock_gettime }, { "gettimeofday", SYS_gettimeofday }, { "time", SYS_time },
        { "clock_getres", SYS_clock_getres },   { "getcpu", SYS_getcpu },             { "getrandom", SYS_getrandom },
    };

    if (!strncmp(name, "__vdso_", 7))
        name += 7;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, name))
            return calls[i].number;
    return -1;
}

/* getrandom is asked with a fifth argument of -1 for how its state is to be kept: there is none then. */
static int patch_with_call(uint8_t *code, const char *name)
{
    int32_t number = call_number(name);

    if (number == SYS_getrandom)
        redirect_call_unless(code, number, -ENOSYS);
    else if (number >= 0)
        redirect_call(code, number);
    return number >= 0 ? 0 : -ENOTSUP;
}

int vdso_redirect(uint8_t *code, const uint8_t *old, uint64_t old_length, const uint8_t *now,
                  uint64_t now_length, uint64_t now_base, const char **ret_name)
{
    struct elf then, here = { 0 };
    int error = elf_open(&then, old, old_length);

    if (!error && now)
        error = elf_open(&here, now, now_length);
    for (uint64_t i = 0; !error && i < then.symbol_count; i++) {
        const char *name;
        uint64_t offset = function_at(&then, &then.symbols[i], &name), target;
        if (!offset)
            continue;
        *ret_name = name;
        if (then.symbols[i].st_size < REDIRECT_STUB_BYTES)
            return -ENOTSUP;
        target = find_function(&here, name);
        if (target)
            redirect_jump(code + offset, now_base + target);
        else
            error = patch_with_call(code + offset, name);
    }
    return error;
}

enum { LOOK_BYTES = 1 << 20 }; /* of a stack: handlers within handlers */

static int is_inside(const struct mapping *vdso, uint64_t address)
{
    return address >= vdso->start && address < vdso->end;
}

static int is_restorer(const struct agent_inherited *inherited, uint64_t address)
{
    for (int i = 0; address && i < AGENT_SIGNALS; i++)
        if (inherited->actions[i].restorer == address)
            return 1;
    return 0;
}

/* A handler of the program's that has interrupted the vDSO will return there: its frame lies further up the stack. */
static int holds_frame(const struct saving *saving, const struct mapping *vdso, const uint64_t *words, size_t count)
{
    for (size_t i = 0; i + (FRAME_CONTEXT + FRAME_PLACE) / 8 < count; i++)
        if (is_restorer(&saving->inherited, words[i]) && is_inside(vdso, words[i + (FRAME_CONTEXT + FRAME_PLACE) / 8]))
            return 1;
    return 0;
}

/* Bytes from a frame to the end of the mapping it is in, as far as it is looked at. */
static size_t bytes_above(const struct mappings *mappings, uint64_t frame)
{
    size_t low = 0, high = mappings->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (mappings->items[middle].end <= frame)
            low = middle + 1;
        else
            high = middle;
    }
    uint64_t bytes = low < mappings->count && frame >= mappings->items[low].start ? mappings->items[low].end - frame : 0;
    if (bytes < FRAME_PLACE + 8)
        bytes = FRAME_PLACE + 8; /* a stack may be of several mappings */
    return bytes < LOOK_BYTES ? bytes : LOOK_BYTES;
}

int vdso_find_inside(const struct saving *saving, const struct mapping *vdso, uint32_t *ret_tid)
{
    uint64_t *words = malloc(LOOK_BYTES);
    int error = words ? 0 : -ENOMEM;

    *ret_tid = 0;
    for (uint32_t i = 0; !error && !*ret_tid && i < saving->thread_count; i++) {
        const struct agent_thread *thread = &saving->page->threads[i];
        ssize_t got = pread(saving->memory, words, bytes_above(&saving->mappings, thread->frame), (off_t)thread->frame);
        if (got < FRAME_PLACE + 8)
            error = -ESRCH; /* dead memory reads as an end of file */
        else if (is_inside(vdso, words[FRAME_PLACE / 8]) || holds_frame(saving, vdso, words, (size_t)got / 8))
            *ret_tid = thread->tid;
    }
    free(words);
    return error;
}
