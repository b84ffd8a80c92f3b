/* SPDX-License-Identifier: MIT */
/* The table of kinds, in the order in which saver and restorer walk it. A new kind is a file, a tag in
 * image/layout.h, and one line here. */
#include <stddef.h>

#include "kind.h"

extern const struct kind kind_process, kind_clocks, kind_memory, kind_threads, kind_signals, kind_timers, kind_waiting_signals, kind_devices,
    kind_standard_streams, kind_pipes, kind_regular_files, kind_working_directory, kind_credentials, kind_limits, kind_attributes,
    kind_path_descriptors, kind_proc_files, kind_directories, kind_locks, kind_eventfds, kind_timerfds, kind_signalfds, kind_inotifies, kind_pidfds,
    kind_epolls, kind_sharing, kind_ended_children, kind_jobs;
extern const struct kind kind_terminals;
extern const struct kind kind_shared_memory, kind_shared_descriptors;
extern const struct kind kind_unix_sockets;
extern const struct kind kind_scheduling, kind_thread_traits, kind_fifos, kind_owners;
extern const struct kind kind_tcp, kind_udp;
extern const struct kind kind_segments, kind_semaphores, kind_message_queues, kind_posix_queues, kind_posix_messages;

const struct kind *const kinds[] = {
    &kind_process,
    &kind_ended_children,
    &kind_jobs,
    &kind_sharing,
    &kind_clocks,
    &kind_threads,
    &kind_scheduling,    /* behind the threads, which it finds by their ids; */
    &kind_thread_traits, /* and so does this */
    &kind_signals,
    &kind_timers,
    &kind_waiting_signals,
    &kind_path_descriptors,
    &kind_proc_files,
    &kind_devices,
    &kind_terminals, /* before those streams that are none */
    &kind_standard_streams,
    &kind_pipes,
    &kind_fifos,
    &kind_unix_sockets,
    &kind_tcp,
    &kind_udp,
    &kind_directories,
    &kind_shared_memory,
    &kind_segments,
    &kind_semaphores,
    &kind_message_queues,
    &kind_shared_descriptors,
    &kind_posix_queues,
    &kind_posix_messages,
    &kind_regular_files,
    &kind_eventfds,
    &kind_timerfds,
    &kind_signalfds,
    &kind_inotifies,
    &kind_pidfds,
    &kind_epolls, /* behind all that it may watch */
    &kind_locks, /* behind all that makes descriptors */
    &kind_owners,
    &kind_working_directory,
    &kind_credentials,
    &kind_limits,
    &kind_attributes,
    &kind_memory,
    NULL,
};

const struct kind *kind_of_tag(uint16_t tag)
{
    for (size_t i = 0; kinds[i]; i++)
        if (kinds[i]->tag == tag)
            return kinds[i];
    return NULL;
}
