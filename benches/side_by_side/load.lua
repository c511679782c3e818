-- Loaded by wrk. Hits send wrk's own fixed request; with MISS_PREFIX set, every request asks for an
-- address of its own. At the end one line of figures is printed, because wrk's own text rounds them.

local prefix = os.getenv("MISS_PREFIX")

if prefix then
   local count = 0
   local head = "GET /miss/" .. prefix
   local tail = " HTTP/1.1\r\nHost: " .. os.getenv("MISS_HOST") .. "\r\n\r\n"
   function request()
      count = count + 1
      return head .. count .. tail
   end
end

function done(summary)
   local e = summary.errors
   io.write(string.format("figures %d %d %d %d\n", summary.requests, summary.duration, summary.bytes,
      e.connect + e.read + e.write + e.status + e.timeout))
end
