-- KEYS the proof  ARGV what it holds, milliseconds, 'new' or what was returned before or ''.  Returns the marks by which a swap
-- of databases is noticed, '' if the server does not report them, or nil: the proof is not there. It is put back only if the
-- marks are unchanged since it was last found: otherwise this may be another keyspace, and the old one may come back.
local stats = redis.pcall('INFO', 'commandstats')
local past = ''
if type(stats) == 'string' then
  local swaps = stats:match('cmdstat_swapdb:calls=(%d+)') or '0'
  -- The counts may have been reset; before Redis 7, any CONFIG command may have done that.
  local resets = stats:match('cmdstat_config|resetstat:(calls=%d+,usec=%d+)') or stats:match('cmdstat_config:(calls=%d+)')
  past = swaps .. ' ' .. (resets or '')
end
local found = redis.call('GET', KEYS[1])
local lasts = tonumber(ARGV[2])
if found == ARGV[1] then
  if redis.call('PTTL', KEYS[1]) < lasts / 2 then redis.call('PEXPIRE', KEYS[1], lasts) end
  return past
end
if not found and (ARGV[3] == 'new' or ARGV[3] ~= '' and ARGV[3] == past) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', lasts)
  return past
end
return false
