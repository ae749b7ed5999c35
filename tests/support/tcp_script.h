/*
 * tcp_script: conversations with our TCP as text, in the manner of packetdrill: what arrives and what the session does is
 * written down, what leaves and what is told is found out, and the whole is compared with the file.
 *
 *   set no-sack | no-ts | no-scale | ecn | window N | mtu N | sent N | half-open N | user-timeout N | wrap N | ... (see set())
 *   listen | connect
 *   < FLAGS seq:len ack N win N [mss N] [scale N] [ts V E] [sack A-B]... [permit] [ce]
 *   ! send N | consume N | finish | close | abort | too-big SEQ MTU | show | count
 *   + N                      so many milliseconds go by; what is due happens when it is due
 *   > ...                    found out, with the time in ms
 *   * ...                    an event of the session
 *
 * Sequence numbers are relative: the peer's to its SYN, ours to our SYN. Flags: S F R P U . (ACK) E C, or - for none.
 */
#ifndef MILLRACE_TESTS_TCP_SCRIPT_H
#define MILLRACE_TESTS_TCP_SCRIPT_H

/* Run tests/golden/tcp/NAME.trace; fails the running test where it differs (MR_UPDATE writes it anew). */
void mr_tcp_script_run(const char *name);

#endif
