-- Prints the measurements of wrk as one line of JSON. The environment gives CONNECTIONS and DEPTH (of a pipeline).
--
-- wrk adds presumed latencies ("coordinated omission"), and with pipelining it presumes wrongly. This script removes
-- them again, so that the percentiles are those of the measured latencies.

local connections, depth = tonumber(os.getenv("CONNECTIONS")), tonumber(os.getenv("DEPTH"))

function init()
  if depth > 1 then
    local batch = string.rep(wrk.format(), depth)
    request = function() return batch end
  end
end

-- For every latency n wrk has added its count at n - interval, n - 2 * interval, … down to interval.
local function measured(latency, interval)
  local counts, values = {}, {}
  for index = 1, #latency do
    local value, count = latency(index)
    values[index], counts[value] = value, count
  end
  for index = #values, 1, -1 do
    local value = values[index]
    local presumed = value - interval
    while value >= 2 * interval and presumed > interval do
      counts[presumed] = counts[presumed] and counts[presumed] - counts[value]
      presumed = presumed - interval
    end
  end
  return values, counts
end

local function percentile(values, counts, percent)
  local total, seen = 0, 0
  for _, value in ipairs(values) do total = total + counts[value] end
  for _, value in ipairs(values) do
    seen = seen + counts[value]
    if seen >= total * percent / 100 then return value end
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local interval = math.floor(summary.duration / math.floor(summary.requests / connections))
  local values, counts = measured(latency, interval)
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "failed": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, failed, percentile(values, counts, 50), percentile(values, counts, 99)))
end
