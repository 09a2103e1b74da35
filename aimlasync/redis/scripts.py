"""What Redis runs: `Account.lease` and `Till.draw` of `aimlasync.account` in Lua.

Law: one key each, one call each, no loop over anything but the quarters of a minute and the workers. Arguments and
answers are the structs of `aimlasync.quota` in MessagePack, fields in their order; state is one MessagePack map.
Numbers are doubles and never texts: nothing is rounded on the way.
"""

from __future__ import annotations

from aimlasync import account

CLOCK = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
"""
"""Where `now` comes from: the server, so that no worker's clock matters."""

# Seconds after which a place that nobody asks is forgotten: longer than anything in it counts.
_EXPIRES = 180

LEASE = f"""
local WINDOW, STEP, PACE, AHEAD = {account.WINDOW}, {account.STEP}, {account.PACE}, {account.AHEAD}
local SLICE, TTL, BUSY, KNOWN = {account.SLICE}, {account.TTL}, {account.BUSY}, {account.KNOWN}
local AWAY, RETURN = {account.AWAY}, {account.RETURN}
local EPSILON = 1e-6
""" + """
local ask = cmsgpack.unpack(ARGV[1])
local worker, rpm, tpm, calls, tokens = ask[1], ask[2], ask[3], ask[4], ask[5]
local epoch, ending, spent_requests, spent_tokens = ask[6], ask[7], ask[8], ask[9]
local corrections, pause, workers, returns = ask[10], ask[11], ask[12], ask[13]

local packed = redis.call('GET', KEYS[1])
local state
if packed then
  state = cmsgpack.unpack(packed)
else
  state = {epoch = string.format('%.0f', now * 1000000), number = 0, paused = 0, asked = 0, back_until = 0,
           open = {}, busy = {}, known = {}, back = {}}
end

-- nil in an array that was packed elsewhere may come as a null of its own.
local function set(bucket, limit)
  if type(limit) ~= 'number' then return nil end
  bucket = bucket or {steps = {}, credit = 0, paid_to = 0}
  bucket.limit = limit
  bucket.rate = limit * PACE / 60
  return bucket
end

local function step_of(time) return math.ceil(time / STEP) end

local function forget(bucket)
  if not bucket then return end
  for step in pairs(bucket.steps) do
    if step * STEP + WINDOW <= now then bucket.steps[step] = nil end
  end
  if now - bucket.paid_to > 60 then bucket.credit = 0 end
end

local function earliest(bucket, amount, from)
  local starts = math.max(from, bucket.paid_to - AHEAD)
  local over = 0
  for step, n in pairs(bucket.steps) do
    if step * STEP + WINDOW > starts then over = over + n end
  end
  over = over + math.min(amount, bucket.limit) - bucket.limit
  if over > EPSILON then
    local order = {}
    for step in pairs(bucket.steps) do order[#order + 1] = step end
    table.sort(order)
    for _, step in ipairs(order) do
      local leaves = step * STEP + WINDOW
      if leaves > starts then
        over = over - bucket.steps[step]
        if over <= EPSILON then return leaves end
      end
    end
  end
  return starts
end

local function add(bucket, amount, step)
  bucket.steps[step] = math.max(0, (bucket.steps[step] or 0) + amount)
end

local function take(bucket, amount, starts, step, share)
  add(bucket, amount, step)
  local paid = math.min(bucket.credit, amount)
  bucket.credit = bucket.credit - paid
  bucket.paid_to = math.max(bucket.paid_to, starts) + (amount - paid) / (bucket.rate * share)
end

local function adjust(bucket, difference)
  if difference > 0 then
    local paid = math.min(bucket.credit, difference)
    bucket.credit = bucket.credit - paid
    bucket.paid_to = math.max(bucket.paid_to, now) + (difference - paid) / bucket.rate
    return
  end
  local owed = math.max(0, bucket.paid_to - now) * bucket.rate
  local paid = math.min(owed, -difference)
  bucket.paid_to = bucket.paid_to - paid / bucket.rate
  bucket.credit = math.min(bucket.limit, bucket.credit - difference - paid)
end

state.requests = set(state.requests, rpm)
state.tokens = set(state.tokens, tpm)
forget(state.requests)
forget(state.tokens)
for name, till in pairs(state.busy) do if till <= now then state.busy[name] = nil end end
for name, till in pairs(state.known) do if till <= now then state.known[name] = nil end end
for name, lease in pairs(state.open) do
  if lease.step * STEP + WINDOW <= now then state.open[name] = nil end
end

if returns and now - state.asked > AWAY then
  state.back = {}
  state.back_until = now + RETURN
end
state.asked = now

local ended = 0
if epoch == state.epoch then
  if state.tokens then
    for step, difference in pairs(corrections) do
      if state.tokens.steps[step] then add(state.tokens, difference, step) end
      adjust(state.tokens, difference)
    end
  end
  local lease = state.open[worker]
  if lease and lease.number == ending then
    state.open[worker] = nil
    ended = math.min(lease.step, step_of(now))
    for _, part in ipairs({{'requests', spent_requests}, {'tokens', spent_tokens}}) do
      local bucket, granted, spent = state[part[1]], lease[part[1]], part[2]
      if bucket then
        add(bucket, -granted, lease.step)
        add(bucket, spent, ended)
        if spent ~= granted then adjust(bucket, spent - granted) end
      end
    end
  end
end

if pause > 0 then state.paused = math.max(state.paused, now + pause) end
state.known[worker] = now + KNOWN

local function count(names)
  local n = 0
  for _ in pairs(names) do n = n + 1 end
  return n
end

local function keep(answer)
  redis.call('SET', KEYS[1], cmsgpack.pack(state), 'EX', EXPIRES)
  return cmsgpack.pack(answer)
end

if calls <= 0 then
  if not state.open[worker] then state.busy[worker] = nil end
  return keep({state.epoch, 0, 0, 0, 0, 0, 0, ended, count(state.known), 'requests'})
end

state.busy[worker] = now + BUSY
local parts = count(state.busy)
local share = 1
if now < state.back_until then
  state.back[worker] = true
  parts = math.max(parts, workers)
  share = math.min(1, count(state.back) / workers)
end
local requests, minute = state.requests, state.tokens
if requests then calls = math.min(calls, math.floor(SLICE * requests.rate / parts)) end
if minute and tokens > 0 then
  tokens = math.min(tokens, minute.limit)
  calls = math.min(calls, math.floor(SLICE * minute.rate / parts / tokens))
end
calls = math.max(1, calls)
tokens = tokens * calls
local starts, held_by = now, 'requests'
if requests then starts = earliest(requests, calls, now) end
if minute then
  local room = earliest(minute, tokens, now)
  if room > starts then starts, held_by = room, 'tokens' end
end
if state.paused > starts then starts, held_by = state.paused, 'pause' end
if requests then starts = math.max(starts, earliest(requests, calls, starts)) end
if minute then starts = math.max(starts, earliest(minute, tokens, starts)) end
local step = step_of(starts + TTL)
if requests then take(requests, calls, starts, step, share) end
if minute then take(minute, tokens, starts, step, share) end
state.number = state.number + 1
state.open[worker] = {number = state.number, requests = calls, tokens = tokens, step = step}
state.busy[worker] = starts + BUSY
return keep({state.epoch, state.number, calls, tokens, starts - now, TTL, step, ended, count(state.known), held_by})
""".replace("EXPIRES", str(_EXPIRES))

DRAW = (
    f"local PARTS = {account.PARTS}"
    + """
local draw = cmsgpack.unpack(ARGV[1])
local worker, total, keeps, needs = draw[1], draw[3], draw[4], draw[5]
local held, holders = 0, 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= worker then
    held = held + tonumber(all[i + 1])
    holders = holders + 1
  end
end
local left = total - held - keeps
local granted = 0
if needs > 0 and needs <= left then
  granted = math.max(needs, math.floor(left / (PARTS * (holders + 1))))
end
redis.call('HSET', KEYS[1], worker, string.format('%.0f', keeps + granted))
return string.format('%.0f', granted)
"""
)
