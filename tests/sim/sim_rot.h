/*
 * sim_rot: bytes that change where they lie (reliability.md S4, S13).
 *
 *   a segment of a client's topic    its records there are excused and nothing else is: other bytes are never
 *                                    delivered, and what lies beside them stays readable
 *   what is made from segments       indexes, snapshots, epochs: nobody may notice
 *
 * Indexes are lost or cut, not changed: their entries have no proof, and a wrong one sends reads to a wrong place.
 *
 * Bytes 0 to 7 and 12 to 15 of a batch (base offset, leader epoch) stay as they are: no CRC covers them in Kafka's
 * format, so nothing in the directory could tell.
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_ROT_H
#define MILLRACE_TESTS_SIM_ROT_H

#include "check_acked.h"
#include "sim_disk.h"
#include "sim_swarm.h"

/* Spoil something in one segment of a topic "sim-*"; false: there was nothing to spoil. */
bool mr_sim_rot_segment(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm, struct mr_check_acked *check);

/* Blocks of another segment lie over those of one of a topic "sim-*", as if their write had gone there: only where that shows
 * in the batches, or the segment has a side-car, for otherwise nothing in the directory tells. False: nothing was done. */
bool mr_sim_rot_misplace(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm, struct mr_check_acked *check);

/* Lose, cut or change files that can be made again; the broker is not running. */
bool mr_sim_rot_derived(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm);

#endif
