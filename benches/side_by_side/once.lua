-- Loaded by wrk. Asks for ONCE_COUNT numbered objects once each, and ends when each has been answered: by number from
-- ONCE_FIRST on, or with ONCE_SEED in an order drawn from it. Every body has to begin with the address of one of them.
-- Prints the figures as load.lua does.

local ffi = require("ffi")
ffi.cdef("int getpid(void); int kill(int pid, int signal);")

local SIGINT = 2
local path = os.getenv("ONCE_PATH")
local head = "GET " .. path
local tail = " HTTP/1.1\r\nHost: " .. os.getenv("ONCE_HOST") .. "\r\n\r\n"
local first = tonumber(os.getenv("ONCE_FIRST"))
local count = tonumber(os.getenv("ONCE_COUNT"))
local seed = tonumber(os.getenv("ONCE_SEED") or "")

local order = {}
for position = 1, count do
   order[position] = first + position - 1
end
if seed then
   math.randomseed(seed)
   for position = count, 2, -1 do
      local other = math.random(position)
      order[position], order[other] = order[other], order[position]
   end
end

-- Not the first call: with that one wrk only looks whether there is a request to send.
local asked = -1
local seen = {}
-- Not local, because done() reads them, which runs apart from the thread.
missing, wrong = count, 0
local the_thread

function setup(thread)
   the_thread = thread
end

function request()
   asked = asked + 1
   -- Connections that are done before the last answer came repeat what was asked last; and if an answer was lost, so
   -- that it never comes, enough is enough.
   if asked > count + 10000 then
      stop()
   end
   return string.format("%s%08d%s", head, order[math.max(1, math.min(asked, count))], tail)
end

function response(status, _, body)
   local number = body:sub(1, #path) == path and tonumber(body:sub(#path + 1, #path + 8))
   if status ~= 200 or not number or number < first or number >= first + count then
      wrong = wrong + 1
   elseif not seen[number] then
      seen[number] = true
      missing = missing - 1
      if missing == 0 then
         stop()
      end
   end
end

-- The thread first, so that nothing more is sent; then the main one, which sleeps until its time is over.
function stop()
   wrk.thread:stop()
   ffi.C.kill(ffi.C.getpid(), SIGINT)
end

function done(summary)
   local e = summary.errors
   local failures = e.connect + e.read + e.write + e.timeout + the_thread:get("wrong") + the_thread:get("missing")
   io.write(string.format("figures %d %d %d %d\n", summary.requests, summary.duration, summary.bytes, failures))
end
