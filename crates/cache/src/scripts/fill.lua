-- KEYS[1] cell  ARGV token or '', the cell that was read from the database, milliseconds.  Answers 1 if it was stored.
-- Otherwise whatever may be older than what was read is gone. Versions are compared as two halves: as one number they
-- would lose digits, and as strings they would be compared by the rules of the server's locale.
local cell = redis.call('GET', KEYS[1])
local token, mine = ARGV[1], ARGV[2]
if not cell then return 0 end
local kind = cell:sub(1, 1)
if kind == 'F' then return 0 end
if token ~= '' and cell == 'L' .. token then
  redis.call('SET', KEYS[1], mine, 'PX', ARGV[3])
  return 1
end
local keep = false
if cell == 'N' then
  keep = mine == 'N'
elseif kind == 'V' and #cell >= 9 and mine ~= 'N' then
  local high, low = struct.unpack('>i4I4', cell, 2)
  local my_high, my_low = struct.unpack('>i4I4', mine, 2)
  keep = high > my_high or high == my_high and low >= my_low
end
if not keep then redis.call('DEL', KEYS[1]) end
return 0
