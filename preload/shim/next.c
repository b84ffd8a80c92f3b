/* SPDX-License-Identifier: MIT */
/* The libc function behind a wrapper, found without dlsym(): that moved from libdl to libc in glibc 2.34, under a symbol
 * version that older nodes do not have. Looks in the dynamic symbol tables (ELF gABI chapter 5, GNU hash section) of libc,
 * and of libpthread and librt where those are apart. */
#include <elf.h>
#include <link.h>
#include <stddef.h>

#include "../../core/floor/text.h"
#include "shim.h"

/* One of libc's; none is ever unloaded. */
struct library {
    ElfW(Addr) base;
    const ElfW(Sym) *symbols;
    const char *strings;
    const uint32_t *hash;
    const ElfW(Half) *versions;
};

enum { MAX_LIBRARIES = 6 };
static struct library libraries[MAX_LIBRARIES] NEAR_THE_SHIM;
static uint32_t library_count NEAR_THE_SHIM; /* 0: not looked for yet */

static uint32_t gnu_hash(const char *name)
{
    uint32_t hash = 5381;
    while (*name)
        hash = hash * 33 + (uint8_t)*name++;
    return hash;
}

static const void *table_address(ElfW(Addr) base, ElfW(Addr) value)
{
    return (const void *)(value < base ? base + value : value); /* glibc relocates these in place, others may not */
}

static const ElfW(Dyn) *dynamic_section(const struct dl_phdr_info *object)
{
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            return (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    return NULL;
}

static struct library library_of(ElfW(Addr) base, const ElfW(Dyn) *entry)
{
    struct library library = { .base = base };

    for (; entry && entry->d_tag != DT_NULL; entry++) {
        const void *address = table_address(base, entry->d_un.d_ptr);
        if (entry->d_tag == DT_SYMTAB)
            library.symbols = address;
        else if (entry->d_tag == DT_STRTAB)
            library.strings = address;
        else if (entry->d_tag == DT_GNU_HASH)
            library.hash = address;
        else if (entry->d_tag == DT_VERSYM)
            library.versions = address;
    }
    return library;
}

/* The default version of `name`: a hidden one (bit 15 of its version) is an old one kept for old programs. */
static const ElfW(Sym) *symbol_find(const struct library *library, const char *name)
{
    const uint32_t *hash = library->hash, wanted = gnu_hash(name);
    uint32_t buckets = hash[0], first = hash[1], bloom = hash[2];
    const uint32_t *bucket = hash + 4 + bloom * (sizeof(ElfW(Addr)) / 4);
    const uint32_t *chain = bucket + buckets;
    uint32_t index = bucket[wanted % buckets];

    if (index < first)
        return NULL;
    for (;; index++) {
        const ElfW(Sym) *symbol = &library->symbols[index];
        uint32_t value = chain[index - first];
        if ((value | 1) == (wanted | 1) && symbol->st_shndx != SHN_UNDEF &&
            !(library->versions && library->versions[index] & 0x8000) && text_equal(library->strings + symbol->st_name, name))
            return symbol;
        if (value & 1)
            return NULL;
    }
}

static int is_of_libc(const char *file)
{
    static const char *const files[] = { "libc.so", "libc-2", "libpthread", "librt", "ld-linux" };

    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (text_starts(file, files[i]))
            return 1;
    return 0;
}

struct look {
    const char *own_name; /* the shim's */
    uint32_t libraries;
};

static int look_at(struct dl_phdr_info *object, size_t size, void *context)
{
    struct look *look = context;
    const char *name = object->dlpi_name ? object->dlpi_name : "";
    const ElfW(Dyn) *dynamic = dynamic_section(object);
    struct library library;

    (void)size;
    if (dynamic == _DYNAMIC)
        look->own_name = name;
    if (!is_of_libc(text_file_name(name)) || look->libraries == MAX_LIBRARIES)
        return 0;
    library = library_of(object->dlpi_addr, dynamic);
    if (library.symbols && library.strings && library.hash)
        libraries[look->libraries++] = library; /* two threads that are here at once write the same */
    return 0;
}

/* Once: dl_iterate_phdr takes the loader's lock, which a fork child may find held for ever. */
static const char *look_around(void)
{
    struct look look = { NULL, 0 };

    dl_iterate_phdr(look_at, &look);
    __atomic_store_n(&library_count, look.libraries, __ATOMIC_RELEASE);
    return look.own_name;
}

void *next_symbol(const char *name)
{
    if (!__atomic_load_n(&library_count, __ATOMIC_ACQUIRE))
        look_around();
    for (uint32_t i = 0; i < library_count; i++) {
        const ElfW(Sym) *symbol = symbol_find(&libraries[i], name);
        if (symbol)
            return (void *)(libraries[i].base + symbol->st_value);
    }
    return NULL;
}

void *next_find(const char *name, void **cache)
{
    void *found = next_symbol(name);

    __atomic_store_n(cache, found, __ATOMIC_RELAXED);
    return found;
}

const char *next_begin(void)
{
    const char *name = look_around();

    if (!name || name[0] == '/')
        return name ? shim_keep(name, NULL, NULL) : NULL;
    return shim_keep_here(name);
}
