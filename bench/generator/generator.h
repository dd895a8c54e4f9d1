/* What the load generator shares with its two protocols: connections with their buffers, and the calls. */

#ifndef GENERATOR_H
#define GENERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that come in at the end and go out at the start. */
struct buffer {
    uint8_t *bytes;
    size_t start, end, size;
};

static inline size_t buffer_length(const struct buffer *buffer) { return buffer->end - buffer->start; }
static inline uint8_t *buffer_head(const struct buffer *buffer) { return buffer->bytes + buffer->start; }

/* Make room for that many bytes, and return where they go. The caller moves `end`. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t count);
void buffer_append(struct buffer *buffer, const void *bytes, size_t count);

struct connection {
    int fd;
    bool is_ready;    /* the handshake is over */
    bool awaits_room; /* epoll tells when the socket takes more bytes */
    bool has_greeted; /* the peer's greeting has been read */
    uint64_t call;    /* HTTP: the open call, if `is_busy` */
    bool is_busy;
    struct buffer in, out;
};

/* A protocol. `read` takes what it can of `connection->in`; it returns false if the peer breaks the protocol. */
struct protocol {
    bool is_multiplexed; /* a connection carries many calls at a time */
    void (*greet)(struct connection *connection);
    void (*call)(struct connection *connection, uint64_t number);
    bool (*read)(struct connection *connection);
};

extern const struct protocol zerorpc_protocol, http_protocol;

/* The bytes of a call: for ZeroRPC the event after the message id, for HTTP the whole request. */
extern uint8_t *request;
extern size_t request_size;

/* A protocol reports the end of a call, with the bytes that must be those of every other answer. */
void on_answer(struct connection *connection, uint64_t number, const uint8_t *body, size_t size);
void on_error(struct connection *connection, uint64_t number, const uint8_t *body, size_t size);

/* A protocol reports an item of a stream; returns how many of this call there have been. */
unsigned on_item(uint64_t number);

#endif
