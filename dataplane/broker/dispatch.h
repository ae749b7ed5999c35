/*
 * dispatch: from the API of a request to its handler, by api.def: here, or a ring to control.
 *
 * A handler begins in mr_handle_<api>() and returns
 *   MR_OK      it goes on: answered already, or when storage or control have answered
 *   MR_AGAIN   no memory now, nothing has happened: it will be called again
 *   other      the bytes are wrong: the connection is closed
 *
 * Thread: the data core.
 */
#ifndef MILLRACE_DISPATCH_H
#define MILLRACE_DISPATCH_H

#include "broker/request.h"

/* Decode the header; what cannot be served is marked is_refused and closes when its turn comes. */
void mr_dispatch_header(struct mr_request *request);

enum mr_err mr_dispatch_start(struct mr_request *request);

/* The last of the request's storage operations was answered. */
void mr_dispatch_resume(struct mr_request *request);

enum mr_err mr_handle_produce(struct mr_request *request);
/* It waited for time to put batches into another codec (encode.h). */
void mr_handle_produce_on(struct mr_request *request);
void mr_handle_produce_done(struct mr_request *request);
enum mr_err mr_handle_fetch(struct mr_request *request);
void mr_handle_fetch_done(struct mr_request *request);
enum mr_err mr_handle_offsets(struct mr_request *request);
void mr_handle_offsets_done(struct mr_request *request);
enum mr_err mr_handle_epochs(struct mr_request *request);
void mr_handle_epochs_done(struct mr_request *request);
enum mr_err mr_handle_delete_records(struct mr_request *request);
void mr_handle_delete_records_done(struct mr_request *request);
enum mr_err mr_handle_metadata(struct mr_request *request);
enum mr_err mr_handle_versions(struct mr_request *request);
enum mr_err mr_handle_versions_unsupported(struct mr_request *request);
enum mr_err mr_handle_cluster(struct mr_request *request);
enum mr_err mr_handle_topic_partitions(struct mr_request *request);

#endif
