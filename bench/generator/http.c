/* HTTP/1.1 (RFC 9112) over connections that stay open: one request at a time on each. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "generator.h"

static void greet(struct connection *connection) { connection->is_ready = true; }

static void call(struct connection *connection, uint64_t number) {
    connection->call = number;
    connection->is_busy = true;
    buffer_append(&connection->out, request, request_size);
}

/* Return where the value of a header begins; NULL if the answer has no such header. */
static const char *header(const char *head, const char *end, const char *name) {
    size_t size = strlen(name);
    for (const char *line = head; line && line < end; line = memmem(line, (size_t)(end - line), "\r\n", 2)) {
        if (line != head)
            line += 2;
        if ((size_t)(end - line) > size && !strncasecmp(line, name, size) && line[size] == ':')
            return line + size + 1 + strspn(line + size + 1, " ");
    }
    return NULL;
}

/* Join the chunks of an answer in place. Returns whether all are there; `*used` is then the size of what was read. */
static bool join_chunks(uint8_t *bytes, size_t have, size_t *used, size_t *joined) {
    size_t at = 0;
    for (size_t pass = 0; pass < 2; pass++) { /* the first pass only looks, because more may have to come */
        at = *joined = 0;
        for (;;) {
            uint8_t *line_end = memmem(bytes + at, have - at, "\r\n", 2);
            if (!line_end)
                return false;
            size_t size = strtoul((char *)bytes + at, NULL, 16), from = (size_t)(line_end - bytes) + 2;
            if (size > have || have < from + size + 2)
                return false;
            at = from + size + 2;
            if (!size)
                break;
            if (pass)
                memmove(bytes + *joined, bytes + from, size);
            *joined += size;
        }
    }
    *used = at;
    return true;
}

static bool read_answer(struct connection *connection) {
    struct buffer *in = &connection->in;
    uint8_t *bytes = buffer_head(in);
    size_t have = buffer_length(in);
    if (!have)
        return true;
    if (!connection->is_busy || bytes[0] != 'H')
        return false;
    const char *head = (const char *)bytes, *end = memmem(bytes, have, "\r\n\r\n", 4);
    if (!end)
        return true;
    const char *length = header(head, end, "content-length"), *coding = header(head, end, "transfer-encoding");
    uint8_t *body = (uint8_t *)end + 4;
    size_t left = have - (size_t)(body - bytes), used = 0, size = 0;
    if (coding && !strncasecmp(coding, "chunked", 7)) {
        if (!join_chunks(body, left, &used, &size))
            return true;
    } else {
        if (!length)
            return false;
        used = size = strtoul(length, NULL, 10);
        if (left < size)
            return true;
    }
    in->start += (size_t)(body - bytes) + used;
    connection->is_busy = false;
    if (have > 12 && !memcmp(bytes + 9, "200", 3))
        on_answer(connection, connection->call, body, size);
    else
        on_error(connection, connection->call, bytes, (size_t)(body - bytes) + size);
    return true;
}

const struct protocol http_protocol = {false, greet, call, read_answer};
