// SPDX-License-Identifier: MIT
// life ROUNDS: two hundred goroutines that count, a pipe that leads through the runtime's epoll, tickers, timers and garbage. What it prints
// does not depend on who was quicker. With C, so that it is linked dynamically.
package main

// #include <stdint.h>
// static uint64_t mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdULL; return x ^ x >> 29; }
import "C"

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

const workers, numbers = 200, 500

// The numbers of one round, each by another goroutine; and a table, for the collector.
func work(in <-chan uint64, out chan<- uint64, group *sync.WaitGroup) {
	defer group.Done()
	for number := range in {
		table := map[uint64][]uint64{}
		for i := uint64(0); i < 64; i++ {
			table[i%7] = append(table[i%7], uint64(C.mix(C.uint64_t(number+i))))
		}
		var sum uint64
		for _, column := range table {
			for _, value := range column {
				sum += value
			}
		}
		out <- sum
	}
}

// Sends back what comes, a little later than it could.
func echo(from io.Reader, to io.Writer) {
	var word [8]byte
	for {
		if _, err := io.ReadFull(from, word[:]); err != nil {
			return
		}
		timer := time.NewTimer(time.Microsecond)
		select {
		case <-timer.C:
		case <-time.After(time.Hour):
		}
		if _, err := to.Write(word[:]); err != nil {
			panic(err)
		}
	}
}

func pipe() (*os.File, *os.File) {
	reader, writer, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	return reader, writer
}

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	in, out := make(chan uint64), make(chan uint64, workers)
	group := new(sync.WaitGroup)
	group.Add(workers)
	for i := 0; i < workers; i++ {
		go work(in, out, group)
	}
	there, asked := pipe()
	answered, here := pipe()
	go echo(there, here)
	ticker := time.NewTicker(time.Millisecond)
	var total uint64
	for round := 0; round < rounds; round++ {
		go func(first uint64) {
			for i := uint64(0); i < numbers; i++ {
				in <- first + i
			}
		}(uint64(round) * numbers)
		for i := 0; i < numbers; i++ {
			total += <-out
		}
		binary.Write(asked, binary.LittleEndian, total)
		var back uint64
		if binary.Read(answered, binary.LittleEndian, &back); back != total {
			panic("another number came back")
		}
		<-ticker.C
		fmt.Printf("%d %016x\n", round, total)
	}
	close(in)
	group.Wait()
}
