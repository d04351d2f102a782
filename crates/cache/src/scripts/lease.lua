-- KEYS[1] cell  ARGV token, milliseconds.  Answers with the cell, or nil: the caller now holds the lease.
-- A script, because the reading half of SET NX GET is not tracked when the key exists.
local cell = redis.call('GET', KEYS[1])
if cell then return cell end
redis.call('SET', KEYS[1], 'L' .. ARGV[1], 'PX', ARGV[2])
return false
