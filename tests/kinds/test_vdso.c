/* SPDX-License-Identifier: MIT */
/* Leading one vDSO into another: with this kernel's own as the old one, patched in a copy, and called there. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../core/kinds/vdso.h"

static const uint8_t *own;
static uint64_t own_length;

/* The mapping that AT_SYSINFO_EHDR names, and a copy of it that may be run and written to. */
static uint8_t *copy_own(void)
{
    uint8_t *copy;
    struct mappings mappings = { 0 };
    char *maps = proc_read(getpid(), "maps", NULL);

    assert_int_equal(mappings_parse(maps, &mappings), 0);
    own = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
    for (size_t i = 0; i < mappings.count; i++)
        if (mappings.items[i].start == (uint64_t)own)
            own_length = mappings.items[i].end - mappings.items[i].start;
    free(maps);
    mappings_free(&mappings);
    copy = mmap(NULL, own_length, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(copy, own, own_length);
    return copy;
}

static const Elf64_Shdr *symbol_section(const uint8_t *vdso)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)vdso;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(vdso + header->e_shoff);

    for (int i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_type == SHT_DYNSYM)
            return &sections[i];
    fail_msg("no symbols");
    return NULL;
}

/* The entry of a function in a vDSO at that place, by our own look at it. */
static void *entry(const uint8_t *vdso, const char *name)
{
    const Elf64_Shdr *section = symbol_section(vdso);
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(vdso + ((const Elf64_Ehdr *)vdso)->e_shoff);
    const char *names = (const char *)vdso + sections[section->sh_link].sh_offset;
    const Elf64_Sym *symbols = (const Elf64_Sym *)(vdso + section->sh_offset);

    for (size_t i = 0; i < section->sh_size / sizeof *symbols; i++)
        if (!strcmp(names + symbols[i].st_name, name))
            return (void *)(uintptr_t)(vdso + symbols[i].st_value);
    return NULL;
}

static void call_all(const uint8_t *vdso)
{
    int (*gettime)(clockid_t, struct timespec *) = entry(vdso, "__vdso_clock_gettime");
    int (*getres)(clockid_t, struct timespec *) = entry(vdso, "clock_getres");
    time_t (*seconds)(time_t *) = entry(vdso, "__vdso_time");
    int (*getcpu)(unsigned *, unsigned *, void *) = entry(vdso, "__vdso_getcpu");
    struct timespec before, now, after, resolution;
    unsigned cpu = 9999;

    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(gettime(CLOCK_MONOTONIC, &now), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(now.tv_sec > before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec >= before.tv_nsec));
    assert_true(now.tv_sec < after.tv_sec || (now.tv_sec == after.tv_sec && now.tv_nsec <= after.tv_nsec));
    assert_int_equal(getres(CLOCK_MONOTONIC, &resolution), 0);
    assert_int_equal(resolution.tv_nsec, 1);
    assert_true(labs(seconds(NULL) - time(NULL)) <= 2);
    assert_int_equal(getcpu(&cpu, NULL, NULL), 0);
    assert_true(cpu < 9999);
}

static void entries_lead_to_the_new_one(void **state)
{
    uint8_t *old = copy_own();
    const char *name;

    (void)state;
    assert_int_equal(vdso_redirect(old, own, own_length, own, own_length, (uint64_t)own, &name), 0);
    assert_memory_equal(entry(old, "__vdso_time"), "\xff\x25\0\0\0\0", 6);
    call_all(old); /* beside it is no data: an entry that was left would fault */
    munmap(old, own_length);
}

static void without_a_new_one_entries_are_system_calls(void **state)
{
    uint8_t *old = copy_own();
    const char *name;
    long (*getrandom)(void *, size_t, unsigned, void *, size_t);
    uint8_t bytes[64] = { 0 };

    (void)state;
    assert_int_equal(vdso_redirect(old, own, own_length, NULL, 0, 0, &name), 0);
    call_all(old);
    getrandom = entry(old, "__vdso_getrandom");
    if (getrandom) {
        assert_int_equal(getrandom(bytes, sizeof bytes, 0, NULL, 0), sizeof bytes);
        assert_int_equal(getrandom(NULL, 0, 0, bytes, (size_t)-1), -ENOSYS);
    }
    munmap(old, own_length);
}

/* Another layout: the new one has the same functions under each other's names. */
static void names_count_and_not_places(void **state)
{
    uint8_t *old = copy_own(), *now = copy_own();
    const Elf64_Shdr *section = symbol_section(now);
    Elf64_Sym *symbols = (Elf64_Sym *)(now + section->sh_offset);
    const Elf64_Sym *first = NULL;
    const char *name;

    (void)state;
    for (size_t i = 0; i < section->sh_size / sizeof *symbols; i++) {
        if (ELF64_ST_TYPE(symbols[i].st_info) != STT_FUNC)
            continue;
        if (!first)
            first = &symbols[i];
        symbols[i].st_value = first->st_value;
    }
    assert_int_equal(vdso_redirect(old, own, own_length, now, own_length, 0x100000, &name), 0);
    uint64_t target, wanted = 0x100000 + first->st_value;
    memcpy(&target, (uint8_t *)entry(old, "__vdso_time") + 6, 8);
    assert_int_equal(target, wanted);
    memcpy(&target, (uint8_t *)entry(old, "__vdso_getcpu") + 6, 8);
    assert_int_equal(target, wanted);
    munmap(old, own_length);
    munmap(now, own_length);
}

static void an_unknown_function_is_named(void **state)
{
    uint8_t *old = copy_own(), *code = copy_own();
    const Elf64_Shdr *section = symbol_section(old);
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(old + ((const Elf64_Ehdr *)old)->e_shoff);
    char *names = (char *)old + sections[section->sh_link].sh_offset;
    const char *name = NULL;

    (void)state;
    for (size_t at = 0; at + 11 < sections[section->sh_link].sh_size; at++)
        if (!strcmp(names + at, "__vdso_time"))
            memcpy(names + at, "__vdso_tame", 11);
    assert_int_equal(vdso_redirect(code, old, own_length, own, own_length, (uint64_t)own, &name), -ENOTSUP);
    assert_string_equal(name, "__vdso_tame");
    munmap(old, own_length);
    munmap(code, own_length);
}

/* Bytes of an image may be anything: nothing outside of them is read or written. The page behind cannot be touched. */
static void damaged_ones_harm_nothing(void **state)
{
    uint8_t *good = copy_own(), *code = copy_own();
    uint8_t *area = mmap(NULL, own_length + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const char *name;
    unsigned seed = 1;

    (void)state;
    assert_int_equal(mprotect(area + own_length, 4096, PROT_NONE), 0);
    for (uint64_t length = 0; length < own_length; length += 8) {
        memcpy(area + own_length - length, good, length);
        vdso_redirect(code, area + own_length - length, length, own, own_length, (uint64_t)own, &name);
    }
    for (int round = 0; round < 20000; round++) {
        memcpy(area, good, own_length);
        for (int i = 0; i < 4; i++)
            area[(unsigned)rand_r(&seed) % (round % 2 ? 1024 : own_length)] = (uint8_t)rand_r(&seed);
        vdso_redirect(code, area, own_length, own, own_length, (uint64_t)own, &name);
    }
    munmap(area, own_length + 4096);
    munmap(good, own_length);
    munmap(code, own_length);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_lead_to_the_new_one),
        cmocka_unit_test(without_a_new_one_entries_are_system_calls),
        cmocka_unit_test(names_count_and_not_places),
        cmocka_unit_test(an_unknown_function_is_named),
        cmocka_unit_test(damaged_ones_harm_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
