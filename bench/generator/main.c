/* The load generator of the benchmark: one thread that keeps calls open, or makes them at a rate, and times each.

   On a small machine the load generator takes its share of the processors from what it measures. So this one is in C,
   and puts the same load on ZeroRPC services and on HTTP servers. bench/generator/__init__.py runs it.

       load zerorpc|http HOST PORT CONNECTIONS IN_FLIGHT RATE SECONDS REQUEST_FILE [CONTAINS]

   RATE is in calls per second; 0 keeps IN_FLIGHT calls open instead. Every answer must have the bytes of the first one,
   which is made alone, or must contain CONTAINS. The last line of the output is the result as JSON. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "generator.h"

#define READ_SIZE (256 * 1024)
#define FIRST_ANSWER_S 30
#define LAST_ANSWERS_S 30
#define MOST_OPEN (1u << 20) /* calls; a power of two */
#define TIMER_SLACK_NS 1000

struct open_call {
    uint64_t number;
    double due_s;
    unsigned items;
    bool is_open;
};

struct times {
    float *us;
    size_t count, size;
};

uint8_t *request;
size_t request_size;

static const struct protocol *protocol;
static struct connection *connections;
static size_t connection_count, next_connection;
static int selector, timer;
static struct sockaddr_in address;

static struct open_call *calls; /* by the low bits of their number */
static uint64_t made, open_count, right, failed, items;
static struct times latencies, lateness;
static uint8_t *expected;
static size_t expected_size;
static const char *contained;
static char *last_error;

static bool is_closed_loop, is_over; /* an answer begins the next call; no call begins any more */
static uint64_t *waiting;            /* HTTP, open loop: calls that are due while every connection is busy; a ring */
static size_t waiting_from, waiting_to;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static void *allocate(void *former, size_t size) {
    void *bytes = realloc(former, size);
    if (!bytes)
        die("no memory for %zu bytes", size);
    return bytes;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* -- buffers ------------------------------------------------------------------------------------------------------ */

uint8_t *buffer_reserve(struct buffer *buffer, size_t count) {
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
    if (buffer->size - buffer->end < count && buffer->start) {
        memmove(buffer->bytes, buffer_head(buffer), buffer_length(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (buffer->size - buffer->end < count) {
        buffer->size = 2 * (buffer->end + count);
        buffer->bytes = allocate(buffer->bytes, buffer->size);
    }
    return buffer->bytes + buffer->end;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t count) {
    memcpy(buffer_reserve(buffer, count), bytes, count);
    buffer->end += count;
}

/* -- times -------------------------------------------------------------------------------------------------------- */

static void note_time(struct times *times, double seconds) {
    if (times->count == times->size) {
        times->size = times->size ? 2 * times->size : 1 << 16;
        times->us = allocate(times->us, times->size * sizeof *times->us);
    }
    times->us[times->count++] = (float)(seconds * 1e6);
}

static int compare_times(const void *one, const void *other) {
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

static double percentile_us(struct times *times, double percentile) {
    if (!times->count)
        return 0;
    qsort(times->us, times->count, sizeof *times->us, compare_times);
    size_t rank = (size_t)(percentile / 100 * (double)times->count);
    return times->us[rank < times->count ? rank : times->count - 1];
}

/* -- connections -------------------------------------------------------------------------------------------------- */

static void watch(struct connection *connection, bool awaits_room, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (awaits_room ? EPOLLOUT : 0), .data.ptr = connection};
    connection->awaits_room = awaits_room;
    if (epoll_ctl(selector, operation, connection->fd, &event))
        die("epoll_ctl: %s", strerror(errno));
}

static bool send_out(struct connection *connection);

static void dial(struct connection *connection) {
    const int yes = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address))
        die("cannot connect: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connection->in.start = connection->in.end = connection->out.start = connection->out.end = 0;
    connection->is_ready = connection->has_greeted = false;
    watch(connection, false, EPOLL_CTL_ADD);
    protocol->greet(connection);
}

static void lose(struct connection *connection) {
    if (protocol->is_multiplexed)
        die("the service has closed a connection");
    close(connection->fd);
    if (connection->is_busy) {
        static const char text[] = "the server has closed the connection";
        connection->is_busy = false;
        dial(connection);
        on_error(connection, connection->call, (const uint8_t *)text, sizeof text - 1);
        send_out(connection); /* the next call; if that fails, an event says so */
    } else {
        dial(connection);
    }
}

static bool send_out(struct connection *connection) {
    struct buffer *out = &connection->out;
    while (buffer_length(out)) {
        ssize_t sent = send(connection->fd, buffer_head(out), buffer_length(out), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent < 0)
            break;
        out->start += (size_t)sent;
    }
    bool awaits_room = buffer_length(out) > 0;
    if (awaits_room != connection->awaits_room)
        watch(connection, awaits_room, EPOLL_CTL_MOD);
    return true;
}

static bool take_in(struct connection *connection) {
    uint8_t *room = buffer_reserve(&connection->in, READ_SIZE);
    ssize_t got = recv(connection->fd, room, READ_SIZE, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    connection->in.end += (size_t)got;
    return protocol->read(connection);
}

/* -- calls -------------------------------------------------------------------------------------------------------- */

static struct open_call *open_call(uint64_t number) {
    struct open_call *call = &calls[number % MOST_OPEN];
    return call->is_open && call->number == number ? call : NULL;
}

static uint64_t begin_call(double due_s) {
    struct open_call *call = &calls[made % MOST_OPEN];
    if (call->is_open)
        die("more than %u calls are open", MOST_OPEN);
    *call = (struct open_call){made, due_s, 0, true};
    open_count++;
    return made++;
}

/* Send a call that is due on the connection that is next in turn, or as soon as one is free. */
static void send_call(uint64_t number) {
    for (size_t tried = 0; tried < connection_count; tried++) {
        struct connection *connection = &connections[next_connection];
        next_connection = (next_connection + 1) % connection_count;
        if (protocol->is_multiplexed || !connection->is_busy) {
            protocol->call(connection, number);
            if (!send_out(connection))
                lose(connection);
            return;
        }
    }
    waiting[waiting_to++ % MOST_OPEN] = number;
}

/* A call has ended; its connection may be the place of the next one. */
static void end_call(struct connection *connection, struct open_call *call) {
    const double now_s = now();
    note_time(&latencies, now_s - call->due_s);
    call->is_open = false;
    open_count--;
    if (waiting_from != waiting_to)
        protocol->call(connection, waiting[waiting_from++ % MOST_OPEN]);
    else if (is_closed_loop && !is_over)
        protocol->call(connection, begin_call(now_s));
}

void on_answer(struct connection *connection, uint64_t number, const uint8_t *body, size_t size) {
    struct open_call *call = open_call(number);
    if (!call)
        return;
    if (!expected) {
        expected = allocate(NULL, size);
        memcpy(expected, body, expected_size = size);
    }
    const bool is_right = contained ? memmem(body, size, contained, strlen(contained)) != NULL
                                    : size == expected_size && !memcmp(body, expected, size);
    if (is_right) {
        right++;
        end_call(connection, call);
    } else {
        on_error(connection, number, body, size);
    }
}

void on_error(struct connection *connection, uint64_t number, const uint8_t *body, size_t size) {
    struct open_call *call = open_call(number);
    if (!call)
        return;
    failed++;
    if (!last_error)
        last_error = strndup((const char *)body, size < 500 ? size : 500);
    end_call(connection, call);
}

unsigned on_item(uint64_t number) {
    struct open_call *call = open_call(number);
    items++;
    return call ? ++call->items : 0;
}

/* -- the loop ----------------------------------------------------------------------------------------------------- */

static void turn(int wait_ms) {
    struct epoll_event ready[256];
    int count = epoll_wait(selector, ready, 256, wait_ms);
    for (int i = 0; i < count; i++) {
        struct connection *connection = ready[i].data.ptr;
        if (!connection) {
            uint64_t expirations;
            (void)!read(timer, &expirations, sizeof expirations);
            continue;
        }
        bool is_open = true;
        if (ready[i].events & ~(unsigned)EPOLLOUT)
            is_open = take_in(connection);
        if (is_open)
            is_open = send_out(connection);
        if (!is_open)
            lose(connection);
    }
}

static void connect_all(void) {
    for (size_t i = 0; i < connection_count; i++) {
        dial(&connections[i]);
        send_out(&connections[i]);
    }
    const double until_s = now() + FIRST_ANSWER_S;
    for (size_t i = 0; i < connection_count; i++)
        while (!connections[i].is_ready) {
            if (now() > until_s)
                die("no handshake within %d s", FIRST_ANSWER_S);
            turn(100);
        }
}

static void wait_for_answers(int longest_s) {
    const double until_s = now() + longest_s;
    while (open_count && now() < until_s)
        turn(100);
}

static void run_closed(uint64_t in_flight, double until_s) {
    for (uint64_t i = 0; i < in_flight; i++)
        send_call(begin_call(now()));
    while (now() < until_s)
        turn(100);
}

static void run_open(double rate, double started_s, double until_s) {
    for (uint64_t i = 0;; i++) {
        const double due_s = started_s + (double)i / rate;
        if (due_s >= until_s)
            return;
        double late_s;
        while ((late_s = now() - due_s) < 0) {
            const struct itimerspec at = {
                .it_value = {(time_t)due_s, (long)((due_s - (double)(time_t)due_s) * 1e9)},
            };
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            turn(100);
        }
        note_time(&lateness, late_s);
        send_call(begin_call(due_s));
        if (i % 16 == 15)
            turn(0); /* answers count while calls are late, too */
    }
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        die("%s: %s", path, strerror(errno));
    request_size = (size_t)ftell(file);
    request = allocate(NULL, request_size + 1);
    rewind(file);
    if (fread(request, 1, request_size, file) != request_size)
        die("%s: %s", path, strerror(errno));
    fclose(file);
}

int main(int count, char **arguments) {
    if (count < 9 || count > 10)
        die("usage: load zerorpc|http HOST PORT CONNECTIONS IN_FLIGHT RATE SECONDS REQUEST_FILE [CONTAINS]");
    protocol = strcmp(arguments[1], "http") ? &zerorpc_protocol : &http_protocol;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[3]))};
    if (inet_pton(AF_INET, arguments[2], &address.sin_addr) != 1)
        die("%s is not an IPv4 address", arguments[2]);
    connection_count = strtoul(arguments[4], NULL, 10);
    const uint64_t in_flight = strtoul(arguments[5], NULL, 10);
    const double rate = atof(arguments[6]), seconds = atof(arguments[7]);
    read_request(arguments[8]);
    contained = count > 9 ? arguments[9] : NULL;

    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    selector = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event on_timer = {.events = EPOLLIN};
    epoll_ctl(selector, EPOLL_CTL_ADD, timer, &on_timer);
    calls = calloc(MOST_OPEN, sizeof *calls);
    waiting = calloc(MOST_OPEN, sizeof *waiting);
    connections = calloc(connection_count, sizeof *connections);
    if (!calls || !waiting || !connections)
        die("no memory");

    connect_all();
    send_call(begin_call(now()));
    wait_for_answers(FIRST_ANSWER_S);
    if (!right)
        die("the first call failed: %s", last_error ? last_error : "no answer");
    right = items = latencies.count = 0;
    is_closed_loop = rate == 0;

    const double started_s = now(), until_s = started_s + seconds;
    if (is_closed_loop)
        run_closed(in_flight, until_s);
    else
        run_open(rate, started_s, until_s);
    const double took_s = now() - started_s;
    const uint64_t in_time = right, items_in_time = items;
    is_over = true;
    wait_for_answers(LAST_ANSWERS_S);
    failed += open_count;

    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    const double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"calls\": %llu, \"failed\": %llu, \"calls_a_second\": %.3f, \"items_a_second\": %.3f, "
           "\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"late_p99_ms\": %.4f, \"cpu_s\": %.4f}\n",
           (unsigned long long)(right + failed), (unsigned long long)failed, (double)in_time / took_s,
           (double)items_in_time / took_s, percentile_us(&latencies, 50) / 1e3, percentile_us(&latencies, 99) / 1e3,
           percentile_us(&lateness, 99) / 1e3, cpu_s);
    if (last_error)
        fprintf(stderr, "a call failed: %s\n", last_error);
    return 0;
}
