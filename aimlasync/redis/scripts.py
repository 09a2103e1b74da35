"""The Lua script for a lease: `Account.lease` of `aimlasync.quota.account`, step by step.

An account is one key, and a lease is one call of the script. Each worker has a field of its own, and workers are
counted by the second in which they expire, so the script loops over nothing but the steps of a minute. A key is lost as
a whole or not at all. A key that holds something else is deleted, and the account starts a new epoch. Arguments and
answers are the structs of `quota.protocol` in MessagePack, fields in their order. Numbers are doubles and never text,
so that nothing is rounded on the way. It may import `quota.account` and `quota.minute`, for their constants.
"""

from __future__ import annotations

from aimlasync.quota import account, minute

CLOCK = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
"""
"""Sets `now` from the server's clock, so that no worker's clock matters."""

# Seconds after which an account that no worker asks expires. A new account waits for workers of an earlier epoch, so
# this is long.
_EXPIRES = 86_400
# The version of the stored format; state of another version is not read.
_VERSION = 3

_CONSTANTS = "".join(
    f"local {name} = {getattr(where, name)}\n"
    for where, names in (
        (minute, ("WINDOW", "STEP", "STRETCH", "RATE_SHARE", "AHEAD", "CREDIT", "BUSY", "HOLD", "MAX_DEBT")),
        (account, ("SLICE", "LEASES", "TTL", "KNOWN", "LEAST", "RETURN", "MAX_PAUSE", "SAME_CLOCK")),
    )
    for name in names
)

LEASE = (
    (
        _CONSTANTS
        + """
local EPSILON = 1e-6
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local ask = cmsgpack.unpack(ARGV[1])
local name, rpm, tpm, calls, tokens = ask[1], ask[2], ask[3], ask[4], ask[5]
local epoch, ending, spent_requests, spent_tokens = ask[6], ask[7], ask[8], ask[9]
local corrections, pause, own_part, alone, away = ask[10], ask[11], ask[12], ask[13], ask[14]
local heard, memory, age, leaves, version = ask[15], ask[16], ask[17], ask[18], ask[19]

local function unpacked(text)
  if not text then return nil end
  local ok, value = pcall(cmsgpack.unpack, text)
  if ok and type(value) == 'table' and value[1] == VERSION then return value[2] end
  return nil
end

-- The field with the empty name holds the account; each worker has a field with its name.
local found = redis.pcall('HMGET', KEYS[1], '', name)
if found.err then
  redis.call('DEL', KEYS[1])
  found = {false, false}
end
local state, worker = unpacked(found[1]), unpacked(found[2])
local limits, limits_version
if state and epoch == state.epoch and heard > state.number then
  limits, limits_version = state.limits, state.version
  state = nil
end
if not state then
  state = {epoch = string.format('%.0f', now * 1000000), since = now, opens = now + RETURN, number = 0,
           sweep = now + KNOWN, paused = 0, busy = {{}, {}}, known = {{}, {}}, limits = limits or {false, false},
           version = limits_version or 0}
end

local function step_of(time) return ceil(time / STEP) end

local function set(bucket, limit)
  if not limit then return nil end
  bucket = bucket or {steps = {}, sums = {}, restored = {}, total = 0, credit = 0, paid_to = 0}
  bucket.limit = limit
  bucket.rate = limit * RATE_SHARE / 60
  return bucket
end

local function forget(bucket)
  if not bucket then return end
  local total, gone = 0, now - WINDOW
  for step, n in pairs(bucket.steps) do
    if step * STEP <= gone then bucket.steps[step] = nil else total = total + n end
  end
  bucket.total = total
  for stretch in pairs(bucket.sums) do
    if stretch * (STRETCH * STEP) <= gone then bucket.sums[stretch] = nil end
  end
  for step in pairs(bucket.restored) do
    if step * STEP <= gone then bucket.restored[step] = nil end
  end
  if now - bucket.paid_to > 60 then bucket.credit = 0 end
end

local function earliest(bucket, amount, from)
  local starts = max(from, bucket.paid_to - AHEAD)
  local over = bucket.total + min(amount, bucket.limit) - bucket.limit
  if over <= EPSILON then return starts end
  over = 0
  for step, n in pairs(bucket.steps) do
    if step * STEP + WINDOW > starts then over = over + n end
  end
  over = over + min(amount, bucket.limit) - bucket.limit
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
  local before = bucket.steps[step] or 0
  local after = max(0, before + amount)
  bucket.steps[step] = after
  bucket.total = bucket.total + after - before
  local stretch = ceil(step / STRETCH)
  bucket.sums[stretch] = max(0, (bucket.sums[stretch] or 0) + after - before)
end

local function take(bucket, amount, starts, step, share)
  add(bucket, amount, step)
  local paid = min(bucket.credit, CREDIT * amount)
  bucket.credit = bucket.credit - paid
  local seconds = (amount - paid) / bucket.rate
  bucket.paid_to = max(bucket.paid_to, starts) + min(seconds / share, seconds + HOLD)
end

local function adjust(bucket, difference)
  if difference > 0 then
    local paid = min(bucket.credit, difference)
    bucket.credit = bucket.credit - paid
    local owed = max(bucket.paid_to, now) + (difference - paid) / bucket.rate
    bucket.paid_to = max(bucket.paid_to, min(owed, now + MAX_DEBT))
    return
  end
  local owed = max(0, bucket.paid_to - now) * bucket.rate
  local paid = min(owed, -difference)
  bucket.paid_to = bucket.paid_to - paid / bucket.rate
  bucket.credit = min(bucket.limit, bucket.credit - difference - paid)
end

local function told(bucket)
  if not bucket then return {} end
  local sums = {bucket.credit, max(0, bucket.paid_to - now)}
  for stretch, amount in pairs(bucket.sums) do
    sums[#sums + 1] = stretch
    sums[#sums + 1] = amount
  end
  return sums
end

local function paced(since, until_, rate)
  local seconds, sums = STRETCH * STEP, {}
  for stretch = ceil(since / seconds), ceil(until_ / seconds) do
    local length = min(until_, stretch * seconds) - max(since, (stretch - 1) * seconds)
    if length > 0 then sums[stretch * STRETCH] = rate * length end
  end
  return sums
end

local function restore(bucket, told, shift, since)
  if not bucket then return end
  local sums = {}
  for i = 3, #told - 1, 2 do
    local step = ceil(told[i]) * STRETCH + shift
    if now < step * STEP + WINDOW and step * STEP + WINDOW < now + 3 * WINDOW then
      sums[step] = min(max(0, told[i + 1]), bucket.limit)
    end
  end
  local paid_to = since + min(max(0, told[2] or 0), MAX_DEBT)
  bucket.paid_to = max(bucket.paid_to, paid_to)
  local until_ = now + AHEAD
  for step, amount in pairs(paced(max(paid_to, now - WINDOW), until_, bucket.rate)) do
    sums[step] = (sums[step] or 0) + amount
  end
  local newest = ceil(until_ / STEP / STRETCH) * STRETCH
  local credit = min(max(0, told[1] or 0), bucket.rate * (until_ - since) * CREDIT / (1 - CREDIT))
  sums[newest] = (sums[newest] or 0) + credit
  for step, amount in pairs(sums) do
    local more = amount - (bucket.restored[step] or 0)
    if more > 0 then
      add(bucket, more, step)
      bucket.restored[step] = amount
    end
  end
end

-- A timing wheel: how many workers there are, and the sum of their parts, by the second in which they expire.
local function put(wheel, second, part)
  wheel[1][second] = (wheel[1][second] or 0) + 1
  wheel[2][second] = (wheel[2][second] or 0) + part
end

local function remove(wheel, second, part)
  if wheel[1][second] then
    wheel[1][second] = wheel[1][second] - 1
    wheel[2][second] = wheel[2][second] - part
  end
end

local function drop(wheel, until_)
  for second in pairs(wheel[1]) do
    if second <= until_ then wheel[1][second], wheel[2][second] = nil, nil end
  end
end

local function sum(wheel, after)
  local count, part = 0, 0
  for second, n in pairs(wheel[1]) do
    if second > after then count, part = count + n, part + wheel[2][second] end
  end
  return count, part
end

local function keep(answer)
  redis.call('HSET', KEYS[1], '', cmsgpack.pack({VERSION, state}))
  redis.call('EXPIRE', KEYS[1], EXPIRES)
  return cmsgpack.pack(answer)
end

drop(state.busy, now - HOLD)
drop(state.known, now)
if version == 0 or version > state.version then
  -- The nil of an array that was packed in Python arrives as a null object, hence the checks of the type.
  local before = state.limits
  local known = version > 0 or sum(state.known, now) > 0
  local after = {
    type(rpm) == 'number' and rpm or known and before[1], type(tpm) == 'number' and tpm or known and before[2],
  }
  if after[1] ~= before[1] or after[2] ~= before[2] then state.version = state.version + 1 end
  state.limits, state.version = after, max(version, state.version)
end
state.requests = set(state.requests, state.limits[1])
state.tokens = set(state.tokens, state.limits[2])
local requests, minute = state.requests, state.tokens
forget(requests)
forget(minute)
if now > state.sweep then
  state.sweep = now + KNOWN
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local other = all[i] ~= '' and unpacked(all[i + 1])
    if all[i] ~= '' and not (other and other.epoch == state.epoch and other.known > now) then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
if name == '' then return keep({state.epoch, 0}) end
if worker and (worker.epoch ~= state.epoch or worker.known <= now) then worker = nil end
if epoch ~= '' and epoch ~= state.epoch then
  if type(memory) ~= 'table' then
    return keep({state.epoch, 0, 0, 0, 0, 0, 0, 0, 1, 'requests', 0, cjson.null, cjson.null, cjson.null, true, 0})
  end
  local shift = step_of(now - age) - memory[1]
  if math.abs(shift) <= SAME_CLOCK then shift = 0 end
  restore(requests, memory[2], shift, now - age)
  restore(minute, memory[3], shift, now - age)
end
local ended = 0
if not worker then
  worker = {epoch = state.epoch, number = 0, requests = 0, tokens = 0, step = 0, busy = 0, known = 0, part = 0,
            alone = 'waits'}
  if own_part > 0 and now < state.opens then state.opens = max(state.opens, state.since + HOLD) end
else
  remove(state.busy, worker.busy, worker.alone == 'waits' and 0 or worker.part)
  remove(state.known, worker.known, worker.part)
end

if epoch == state.epoch then
  if minute then
    for step, difference in pairs(corrections) do
      if step == 0 then step = step_of(now) end
      if minute.steps[step] or difference > 0 then add(minute, difference, min(step, step_of(now + 2 * WINDOW))) end
      adjust(minute, difference)
    end
  end
  if ending ~= 0 and worker.number == ending then
    worker.number = 0
    if worker.step * STEP + WINDOW > now then
      ended = min(worker.step, step_of(now))
      for _, part in ipairs({{'requests', spent_requests}, {'tokens', spent_tokens}}) do
        local bucket, granted, spent = state[part[1]], worker[part[1]], part[2]
        if bucket then
          add(bucket, -granted, worker.step)
          add(bucket, spent, ended)
          if spent ~= granted then adjust(bucket, spent - granted) end
        end
      end
    end
  end
end
if away > 0 and (epoch == '' or epoch == state.epoch) then
  for _, bucket in pairs({requests or minute, requests and minute}) do
    if bucket then
      for step, amount in pairs(paced(now - min(away, WINDOW), now, own_part * bucket.rate)) do
        add(bucket, amount, step)
      end
      adjust(bucket, own_part * bucket.rate * min(away, BUSY))
    end
  end
end
if pause > 0 then state.paused = max(state.paused, now + min(pause, MAX_PAUSE)) end
if leaves then
  redis.call('HDEL', KEYS[1], name)
  return keep({state.epoch, 0, 0, 0, 0, 0, 0, ended})
end

local count, parts = sum(state.known, now)
local part = own_part
if alone ~= 'share' then
  if now >= state.opens then part = 1 / (count + 1) end
  part = max(0, min(part, 1 - parts))
end
worker.alone = alone
worker.part = max(own_part, part)

local number, starts, step, held_by = 0, now, 0, 'requests'
if calls > 0 then
  local busy, busy_parts = sum(state.busy, now)
  local share = 1
  if now < state.opens then share = min(1, parts + worker.part) end
  if share > 0 then
    local _, all = sum(state.busy, now - HOLD)
    share = max(LEAST, share - all + busy_parts)
  else
    starts, share = state.opens, 1
  end
  local part_now = min(TTL, max(SLICE, (busy + 1) / LEASES)) * share / (busy + 1)
  if requests then calls = min(calls, floor(part_now * requests.rate)) end
  if minute and tokens > 0 then
    tokens = min(tokens, minute.limit)
    calls = min(calls, floor(part_now * minute.rate / tokens))
  end
  calls = max(1, calls)
  tokens = tokens * calls
  if requests then starts = earliest(requests, calls, starts) end
  if minute then
    local room = earliest(minute, tokens, starts)
    if room > starts then starts, held_by = room, 'tokens' end
  end
  if state.paused > starts then starts, held_by = state.paused, 'pause' end
  if requests then starts = max(starts, earliest(requests, calls, starts)) end
  if minute then starts = max(starts, earliest(minute, tokens, starts)) end
  step = step_of(starts + TTL)
  if requests then take(requests, calls, starts, step, share) end
  if minute then take(minute, tokens, starts, step, share) end
  state.number = state.number + 1
  number = state.number
  worker.number, worker.requests, worker.tokens, worker.step = number, calls, tokens, step
  worker.busy = ceil(starts + BUSY)
else
  calls, tokens = 0, 0
  if worker.number == 0 or worker.step * STEP <= now then worker.busy = 0 end
end
if worker.busy > 0 then put(state.busy, worker.busy, worker.alone == 'waits' and 0 or worker.part) end
worker.known = ceil(starts + KNOWN)
put(state.known, worker.known, worker.part)
redis.call('HSET', KEYS[1], name, cmsgpack.pack({VERSION, worker}))
return keep({state.epoch, number, calls, tokens, starts - now, number > 0 and TTL or 0, step, ended,
             (sum(state.known, now)), held_by, part,
             requests and requests.limit or cjson.null, minute and minute.limit or cjson.null,
             {step_of(now), told(requests), told(minute)}, false, state.version})
"""
    )
    .replace("EXPIRES", str(_EXPIRES))
    .replace("VERSION", str(_VERSION))
)
