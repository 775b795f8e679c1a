-- Posts prepared bodies in turn and prints the figures as one line of JSON.
-- Arguments: a folder of files 0.body, 1.body, ..., then headers as "Name: value".

local requests = {}
local turn = 0

local function bodies(folder)
  local found = {}
  while true do
    local file = io.open(folder .. "/" .. #found .. ".body", "rb")
    if not file then
      return found
    end
    found[#found + 1] = file:read("*a")
    file:close()
  end
end

function init(args)
  local headers = {}
  for index = 2, #args do
    local name, value = args[index]:match("^([^:]+):%s*(.*)$")
    headers[name] = value
  end
  for index, body in ipairs(bodies(args[1])) do
    requests[index] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.4f,"p99_ms":%.4f,' ..
    '"bad_status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
