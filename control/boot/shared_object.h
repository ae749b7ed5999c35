/*
 * shared_object: parts of the broker that lie beside the program and are loaded when they are asked for, so that others do not
 * pay for the libraries that they bring.
 *
 * Start-up only, the main thread.
 */
#ifndef MILLRACE_CONTROL_SHARED_OBJECT_H
#define MILLRACE_CONTROL_SHARED_OBJECT_H

#include <stddef.h>

/* The entry `symbol` of the shared object `name`; NULL: `why` says why. `absent` is what to say when this build has none. */
void *mr_shared_object(const char *name, const char *symbol, const char *absent, char *why, size_t why_size);

#endif
