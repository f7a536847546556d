-- What Argo CD shows of a Hat: whether its place among those that supervise each other is sound. Whether somebody wears it is
-- no question of health.
local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp then
  return health("Progressing", "the hat is being removed")
end
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  if condition.type == "GraphValid" then
    if condition.status == "True" then
      return health("Healthy", "")
    end
    return health("Degraded", condition.reason .. ": " .. (condition.message or ""))
  end
end
return health("Progressing", "no operator has looked at the hat yet")
