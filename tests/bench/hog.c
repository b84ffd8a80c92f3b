/* SPDX-License-Identifier: MIT */
/* hog: a memory-holding workload whose every page is checkable, for timing any checkpointer.
 *
 *   hog -m MB -p PATTERN -t THREADS -d PERCENT -s SECONDS -o LOG
 *
 * PATTERN: rand (incompressible), text (compressible ~3x), zero (touched zero pages), sparse (1 page in 16 touched).
 * Each thread keeps ticking; the log gets a line whenever the gap between two ticks is over 2 ms:
 *   gap_ms <ms> at <seconds since start of clock>
 * -d PERCENT: share of the pages that is rewritten (with a new generation) every second.
 * At the end (-s seconds of ticking, suspended time not counted) every page is verified; prints "OK <pages>" or "BAD ...".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };
static size_t npages; static uint64_t *mem; static uint32_t *gen; static int pattern, nthreads = 1, dirty; static double seconds = 10;
static FILE *logf_; static volatile int stop;

static uint64_t mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdULL; x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53ULL; return x ^ (x >> 33); }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static int touched(size_t p) { return pattern != 3 || p % 16 == 0; }
static uint64_t word(size_t p, int w, uint32_t g) {
  uint64_t r = mix(p * 512 + w + ((uint64_t)g << 40));
  switch (pattern) {
  case 1: return 0x2020202020202020ULL | (r & 0x0f0f000000000f0fULL); /* few symbols: compresses about 3x */
  case 2: return 0;
  default: return r;
  }
}
static void fill(size_t p, uint32_t g) { for (int w = 0; w < WORDS; w++) ((volatile uint64_t *)mem)[p * WORDS + w] = word(p, w, g); gen[p] = g; }
static int check(size_t p) { for (int w = 0; w < WORDS; w++) if (mem[p * WORDS + w] != word(p, w, gen[p])) return 0; return 1; }

static void *ticker(void *arg) {
  long id = (long)arg; double used = 0, last = now(); uint64_t x = id + 1; size_t cursor = 0; double debt = 0;
  while (used < seconds && !stop) {
    for (int i = 0; i < 2000; i++) x = mix(x);
    if (dirty && id == 0) { /* thread 0 rewrites pages at the wanted rate */
      while (debt >= 1 ) { if (touched(cursor)) fill(cursor, gen[cursor] + 1); cursor = (cursor + 7919) % npages; debt -= 1; if (now() - last > 0.001) break; }
    }
    double t = now(), gap = t - last; last = t;
    if (gap > 0.002) { flockfile(logf_); fprintf(logf_, "gap_ms %.3f at %.6f thread %ld\n", gap * 1e3, t, id); fflush(logf_); funlockfile(logf_); used += 0.002; }
    else used += gap;
    if (dirty) debt += (gap < 0.1 ? gap : 0.1) * npages * dirty / 100.0;
  }
  return (void *)(uintptr_t)(x | 1);
}

int main(int argc, char **argv) {
  size_t mb = 64; const char *log = "hog.log"; int c; logf_ = stdout;
  while ((c = getopt(argc, argv, "m:p:t:d:s:o:")) != -1) switch (c) {
    case 'm': mb = strtoul(optarg, 0, 10); break;
    case 'p': pattern = !strcmp(optarg, "rand") ? 0 : !strcmp(optarg, "text") ? 1 : !strcmp(optarg, "zero") ? 2 : 3; break;
    case 't': nthreads = atoi(optarg); break;
    case 'd': dirty = atoi(optarg); break;
    case 's': seconds = atof(optarg); break;
    case 'o': log = optarg; break;
    default: return 2;
  }
  logf_ = fopen(log, "a"); if (!logf_) { perror(log); return 2; }
  npages = mb << 8; mem = mmap(0, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); gen = calloc(npages, sizeof *gen);
  if (mem == MAP_FAILED || !gen) { perror("memory"); return 2; }
  for (size_t p = 0; p < npages; p++) if (touched(p)) fill(p, 0);
  fprintf(logf_, "ready pid %d at %.6f\n", getpid(), now()); fflush(logf_);
  pthread_t *th = calloc(nthreads, sizeof *th);
  for (long i = 1; i < nthreads; i++) if (pthread_create(&th[i], 0, ticker, (void *)i)) { perror("thread"); return 2; }
  ticker((void *)0L); for (int i = 1; i < nthreads; i++) pthread_join(th[i], 0);
  size_t bad = 0; for (size_t p = 0; p < npages; p++) if (touched(p) && !check(p)) bad++;
  fprintf(logf_, bad ? "BAD %zu of %zu\n" : "OK %zu %zu\n", bad ? bad : npages, npages); fflush(logf_);
  printf(bad ? "BAD\n" : "OK\n"); return bad != 0;
}
