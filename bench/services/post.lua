-- The request that wrk sends to a model server, and its report: one line of JSON after RESULT. wrk checks only the status
-- of each answer, because checking the body as well would slow it down.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = os.getenv("BENCH_BODY")

function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
    io.write(string.format('RESULT {"calls": %d, "failed": %d, "us": %d, "p50_us": %d, "p99_us": %d}\n',
        summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
