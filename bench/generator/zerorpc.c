/* ZeroRPC over ZMTP 3.1 with the NULL mechanism (rfc.zeromq.org, 37/ZMTP): a DEALER of many calls. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generator.h"

enum { MORE = 1, LONG = 2, COMMAND = 4 };

#define GREETING_SIZE 64
#define ID_SIZE 32
#define MAX_CONTEXT 16 /* of a PING, in bytes */

/* Slots that a stock Python client announces for the items of a stream (zerorpc `BufferedChannel`). */
#define STREAM_SLOTS 100

static void greet(struct connection *connection) {
    uint8_t greeting[GREETING_SIZE] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
    static const char ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER";
    buffer_append(&connection->out, greeting, sizeof greeting);
    buffer_append(&connection->out, ready, sizeof ready - 1);
}

static void append_frame_head(struct buffer *out, size_t size) {
    if (size < 256) {
        const uint8_t head[2] = {0, (uint8_t)size};
        buffer_append(out, head, sizeof head);
        return;
    }
    uint8_t head[9] = {LONG};
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(size >> (8 * (7 - i)));
    buffer_append(out, head, sizeof head);
}

static void append_event(struct connection *connection, const char *head, size_t head_size, uint64_t number,
                         const void *tail, size_t tail_size) {
    static const uint8_t delimiter[2] = {MORE, 0};
    char id[ID_SIZE + 1];
    snprintf(id, sizeof id, "%032llx", (unsigned long long)number);
    buffer_append(&connection->out, delimiter, sizeof delimiter);
    append_frame_head(&connection->out, head_size + ID_SIZE + tail_size);
    buffer_append(&connection->out, head, head_size);
    buffer_append(&connection->out, id, ID_SIZE);
    buffer_append(&connection->out, tail, tail_size);
}

/* The first event of a call, as stock Python clients write it (zerorpc `Event.pack`). */
static void call(struct connection *connection, uint64_t number) {
    static const char head[] = "\x93\x82\xaamessage_id\xc4\x20";
    append_event(connection, head, sizeof head - 1, number, request, request_size);
}

static void announce_slots(struct connection *connection, uint64_t number, uint8_t slots) {
    static const char head[] = "\x93\x83\xaamessage_id\xc4\x04more\xa1v\x03\xabresponse_to\xc4\x20";
    char tail[] = "\xa9_zpc_more\x91\x00";
    tail[sizeof tail - 2] = (char)slots; /* a positive fixint */
    append_event(connection, head, sizeof head - 1, number, tail, sizeof tail - 1);
}

/* Return the size of the msgpack value at `at`, of the kinds that are in the header of an event; 0 for any other. */
static size_t value_size(const uint8_t *at, const uint8_t *end) {
    if (at >= end)
        return 0;
    size_t size = *at < 0x80 || *at == 0xc0                        ? 1
                  : (*at & 0xe0) == 0xa0                           ? 1 + (*at & 0x1fu)
                  : (*at == 0xc4 || *at == 0xd9) && at + 1 < end   ? 2u + at[1]
                                                                   : 0;
    return size <= (size_t)(end - at) ? size : 0;
}

/* Take an event apart: the call that it answers, and where its name begins. */
static bool read_header(const uint8_t *event, size_t size, uint64_t *number, const uint8_t **name) {
    static const char response_to[] = "\xabresponse_to";
    const uint8_t *at = event + 2, *end = event + size;
    bool is_answer = false;
    if (size < 2 || event[0] != 0x93 || (event[1] & 0xf0) != 0x80)
        return false;
    for (int left = event[1] & 0x0f; left > 0; left--) {
        size_t key = value_size(at, end), value = key ? value_size(at + key, end) : 0;
        if (!value)
            return false;
        if (key == sizeof response_to - 1 && !memcmp(at, response_to, key) && value == 2 + ID_SIZE) {
            char id[ID_SIZE + 1] = {0};
            memcpy(id, at + key + 2, ID_SIZE);
            *number = strtoull(id, NULL, 16);
            is_answer = true;
        }
        at += key + value;
    }
    *name = at;
    return is_answer && at < end;
}

static bool is_named(const uint8_t *at, const uint8_t *end, const char *name) {
    size_t size = strlen(name);
    return (size_t)(end - at) > size && *at == (0xa0 | size) && !memcmp(at + 1, name, size);
}

static bool on_event(struct connection *connection, const uint8_t *event, size_t size) {
    uint64_t number = 0;
    const uint8_t *name, *end = event + size;
    if (!read_header(event, size, &number, &name))
        return false;
    if (is_named(name, end, "OK") || is_named(name, end, "STREAM_DONE")) {
        on_answer(connection, number, name, (size_t)(end - name));
    } else if (is_named(name, end, "STREAM")) {
        unsigned items = on_item(number);
        if (!items)
            return true; /* of a call that has failed */
        if (items == 1)
            announce_slots(connection, number, STREAM_SLOTS);
        else if (items % (STREAM_SLOTS / 2) == 0)
            announce_slots(connection, number, STREAM_SLOTS / 2);
    } else if (!is_named(name, end, "_zpc_hb") && !is_named(name, end, "_zpc_more")) {
        on_error(connection, number, name, (size_t)(end - name));
    }
    return true;
}

/* The peer's READY ends the handshake; a PING has to be answered. */
static void on_command(struct connection *connection, const uint8_t *body, size_t size) {
    if (size >= 6 && !memcmp(body, "\x05READY", 6)) {
        connection->is_ready = true;
    } else if (size >= 7 && size <= 7 + MAX_CONTEXT && !memcmp(body, "\x04PING", 5)) {
        const size_t context = size - 7; /* after the time to live */
        const uint8_t head[7] = {COMMAND, (uint8_t)(5 + context), 4, 'P', 'O', 'N', 'G'};
        buffer_append(&connection->out, head, sizeof head);
        buffer_append(&connection->out, body + 7, context);
    }
}

static bool read_frames(struct connection *connection) {
    struct buffer *in = &connection->in;
    if (!connection->has_greeted) {
        if (buffer_length(in) < GREETING_SIZE)
            return true;
        if (buffer_head(in)[0] != 0xff || memcmp(buffer_head(in) + 12, "NULL", 5))
            return false;
        in->start += GREETING_SIZE;
        connection->has_greeted = true;
    }
    for (;;) {
        const uint8_t *head = buffer_head(in);
        size_t have = buffer_length(in), head_size, size = 0;
        if (have < 2)
            return true;
        if (head[0] & LONG) {
            head_size = 9;
            if (have < head_size)
                return true;
            for (int i = 0; i < 8; i++)
                size = size << 8 | head[1 + i];
        } else {
            head_size = 2;
            size = head[1];
        }
        if (have - head_size < size)
            return true;
        in->start += head_size + size;
        if (head[0] & COMMAND)
            on_command(connection, head + head_size, size);
        else if (!(head[0] & MORE) && !on_event(connection, head + head_size, size))
            return false;
    }
}

const struct protocol zerorpc_protocol = {true, greet, call, read_frames};
