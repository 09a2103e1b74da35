"""The Lua script for a draw from a shared budget: `Purse.draw` of `aimlasync.quota.purse`, step by step.

The conventions are those of `redis.scripts`: one key, one call, and no loop over anything that grows. It may import
`quota.account` and `quota.purse`, for their constants.
"""

from __future__ import annotations

from aimlasync.quota import account, purse

# The version of the stored format; a purse of another version is not read.
_VERSION = 2

DRAW = (
    f"local PARTS, RETURN, VERSION = {purse.PARTS}, {account.RETURN}, {_VERSION}\n"
    + """
local draw = cmsgpack.unpack(ARGV[1])
local worker, total, keeps, needs = draw[1], draw[3], draw[4], draw[5]
local epoch, version, taken = draw[6], draw[7], draw[8]
local function text(n) return string.format('%.0f', n) end

-- The field with the empty name holds the purse; each worker's field holds how much it has drawn.
local found = redis.pcall('HMGET', KEYS[1], '', worker)
if found.err then
  redis.call('DEL', KEYS[1])
  found = {false, false}
end
local ok, purse = pcall(cmsgpack.unpack, found[1] or '')
local held = tonumber(found[2] or nil)
if ok and type(purse) == 'table' and epoch == purse.epoch and version > purse.version then
  -- The purse was restored from an older copy, which lacks what was drawn since.
  redis.call('DEL', KEYS[1])
  ok, held = false, nil
end
if not ok or type(purse) ~= 'table' or purse.format ~= VERSION then
  -- There is no readable purse: the sum is computed from what the workers hold.
  purse = {format = VERSION, epoch = string.format('%.0f', now * 1000000), opens = now + RETURN, version = 0, sum = 0,
           taken_before = 0, returned = 0, holders = 0}
  redis.call('HDEL', KEYS[1], '')
  for _, holds in ipairs(redis.call('HVALS', KEYS[1])) do
    purse.sum = purse.sum + (tonumber(holds) or 0)
    purse.holders = purse.holders + 1
  end
end
if epoch ~= '' and epoch ~= purse.epoch then
  purse.taken_before = math.max(purse.taken_before, taken)
  if not held then purse.returned = purse.returned + keeps end
end
if not held then purse.holders = purse.holders + 1 end
purse.sum = purse.sum + keeps - (held or 0)
purse.version = purse.version + 1
local function all() return purse.sum + math.max(0, purse.taken_before - purse.returned) end
local wait = math.max(0, purse.opens - now)
local left = total - all()
local granted = 0
if wait == 0 and needs > 0 and needs <= left then
  granted = math.max(needs, math.floor(left / (PARTS * purse.holders)))
  purse.sum = purse.sum + granted
end
redis.call('HSET', KEYS[1], worker, text(keeps + granted), '', cmsgpack.pack(purse))
return cmsgpack.pack({granted, purse.epoch, purse.version, all(), wait})
"""
)
