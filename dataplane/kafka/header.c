/*
 * header: request and response headers.
 */
#include "millrace/kafka/header.h"

int16_t mr_header_request_version(const struct mr_api *api, int16_t version)
{
    return version >= api->flexible_since ? 2 : 1;
}

int16_t mr_header_response_version(const struct mr_api *api, int16_t version)
{
    return version >= api->flexible_since && api->key != MR_API_API_VERSIONS ? 1 : 0;
}

enum mr_err mr_header_decode(struct mr_reader *reader, struct mr_arena *scratch,
                             struct mr_header *header)
{
    *header = (struct mr_header){.client_id = MR_STR_NULL};
    /* Both versions begin alike: look at that part, then decode the whole in the right one. */
    struct mr_reader ahead = *reader;
    enum mr_err      err = mr_reader_int16(&ahead, &header->key);
    if (err == MR_OK) {
        err = mr_reader_int16(&ahead, &header->version);
    }
    if (err == MR_OK) {
        err = mr_reader_int32(&ahead, &header->correlation_id);
    }
    if (err != MR_OK) {
        return err;
    }
    header->api = mr_api_find(header->key);
    if (header->api == NULL || !mr_api_has_version(header->api, header->version)) {
        return MR_ERR_UNSUPPORTED_VERSION;
    }
    struct mr_request_header whole;
    err = mr_msg_decode(&mr_msg_request_header,
                        mr_header_request_version(header->api, header->version), reader, scratch,
                        &whole);
    if (err == MR_OK) {
        header->client_id = whole.client_id;
    }
    return err;
}

enum mr_err mr_header_encode_response(struct mr_writer *writer, const struct mr_api *api,
                                      int16_t version, int32_t correlation_id)
{
    const struct mr_response_header header = {.correlation_id = correlation_id};
    return mr_msg_encode(&mr_msg_response_header, mr_header_response_version(api, version), &header,
                         writer);
}

enum mr_err mr_header_encode_request(struct mr_writer *writer, const struct mr_api *api,
                                     int16_t version, int32_t correlation_id,
                                     struct mr_str client_id)
{
    const struct mr_request_header header = {
        .request_api_key = api->key,
        .request_api_version = version,
        .correlation_id = correlation_id,
        .client_id = client_id,
    };
    return mr_msg_encode(&mr_msg_request_header, mr_header_request_version(api, version), &header,
                         writer);
}
