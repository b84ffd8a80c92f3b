/* SPDX-License-Identifier: MIT */
/* The libc function behind a wrapper, found without dlsym(): that moved from libdl to libc in glibc 2.34, under a symbol
 * version that older nodes do not have. Walks the dynamic symbol tables (ELF gABI chapter 5, GNU hash section) of libc,
 * and of libpthread and librt where those are apart. */
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "shim.h"

struct lookup {
    const char *name;
    void *found;
};

static uint32_t gnu_hash(const char *name)
{
    uint32_t hash = 5381;
    while (*name)
        hash = hash * 33 + (uint8_t)*name++;
    return hash;
}

struct tables {
    const ElfW(Sym) *symbols;
    const char *strings;
    const uint32_t *hash;
    const ElfW(Half) *versions;
};

static const void *table_address(ElfW(Addr) base, ElfW(Addr) value)
{
    return (const void *)(value < base ? base + value : value); /* glibc relocates these in place, others may not */
}

static int tables_find(struct dl_phdr_info *object, struct tables *tables)
{
    const ElfW(Dyn) *entry = NULL;

    memset(tables, 0, sizeof *tables);
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        const void *address = table_address(object->dlpi_addr, entry->d_un.d_ptr);
        if (entry->d_tag == DT_SYMTAB)
            tables->symbols = address;
        else if (entry->d_tag == DT_STRTAB)
            tables->strings = address;
        else if (entry->d_tag == DT_GNU_HASH)
            tables->hash = address;
        else if (entry->d_tag == DT_VERSYM)
            tables->versions = address;
    }
    return tables->symbols && tables->strings && tables->hash;
}

/* The default version of `name`: a hidden one (bit 15 of its version) is an old one kept for old programs. */
static const ElfW(Sym) *symbol_find(const struct tables *tables, const char *name)
{
    const uint32_t *hash = tables->hash, wanted = gnu_hash(name);
    uint32_t buckets = hash[0], first = hash[1], bloom = hash[2];
    const uint32_t *bucket = hash + 4 + bloom * (sizeof(ElfW(Addr)) / 4);
    const uint32_t *chain = bucket + buckets;
    uint32_t index = bucket[wanted % buckets];

    if (index < first)
        return NULL;
    for (;; index++) {
        const ElfW(Sym) *symbol = &tables->symbols[index];
        uint32_t value = chain[index - first];
        if ((value | 1) == (wanted | 1) && symbol->st_shndx != SHN_UNDEF &&
            !(tables->versions && tables->versions[index] & 0x8000) && !strcmp(tables->strings + symbol->st_name, name))
            return symbol;
        if (value & 1)
            return NULL;
    }
}

static int look_in(struct dl_phdr_info *object, size_t size, void *context)
{
    struct lookup *lookup = context;
    const char *file = object->dlpi_name ? strrchr(object->dlpi_name, '/') : NULL;
    struct tables tables;
    const ElfW(Sym) *symbol;

    (void)size;
    if (!file || (strncmp(file, "/libc.so", 8) && strncmp(file, "/libc-2", 7) && strncmp(file, "/libpthread", 11) && strncmp(file, "/librt", 6) &&
                  strncmp(file, "/ld-linux", 9)))
        return 0;
    if (!tables_find(object, &tables) || !(symbol = symbol_find(&tables, lookup->name)))
        return 0;
    lookup->found = (void *)(object->dlpi_addr + symbol->st_value);
    return 1;
}

void *next_symbol(const char *name)
{
    struct lookup lookup = { .name = name };
    dl_iterate_phdr(look_in, &lookup);
    return lookup.found;
}

void *next_cached(const char *name, void **cache)
{
    void *found = __atomic_load_n(cache, __ATOMIC_RELAXED);
    if (!found) {
        found = next_symbol(name);
        __atomic_store_n(cache, found, __ATOMIC_RELAXED);
    }
    return found;
}

#pragma GCC visibility push(hidden)
extern struct next_entry __start_next_table[], __stop_next_table[];
#pragma GCC visibility pop

/* dl_iterate_phdr takes the loader's lock, which a fork child would find held for ever if another thread held it at the
 * fork: so all is looked up before the first one. */
void next_resolve_all(void)
{
    for (struct next_entry *entry = __start_next_table; entry < __stop_next_table; entry++)
        next_cached(entry->name, entry->cache);
}

struct own_path {
    char *path;
    size_t size;
};

static int is_it_us(struct dl_phdr_info *object, size_t size, void *context)
{
    struct own_path *own = context;
    ElfW(Addr) here = (ElfW(Addr))&next_own_path;

    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        ElfW(Addr) start = object->dlpi_addr + header->p_vaddr;
        if (header->p_type != PT_LOAD || here < start || here >= start + header->p_memsz)
            continue;
        size_t length = 0;
        if (object->dlpi_name[0] != '/' && getcwd(own->path, own->size - 1)) {
            length = strlen(own->path);
            own->path[length++] = '/';
        }
        strncpy(own->path + length, object->dlpi_name, own->size - length - 1);
        own->path[own->size - 1] = 0;
        return 1;
    }
    return 0;
}

void next_own_path(char *path, unsigned long size)
{
    struct own_path own = { path, size };
    path[0] = 0;
    dl_iterate_phdr(is_it_us, &own);
}
