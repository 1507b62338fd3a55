-- Which actions Argo CD offers on a LongTask now.
local finished = false
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  if condition.type == "Finished" and condition.status == "True" then finished = true end
end
local spec = obj.spec or {}
return {
  suspend = { disabled = finished or spec.suspend == true, iconClass = "fa fa-fw fa-pause" },
  resume = { disabled = finished or spec.suspend ~= true, iconClass = "fa fa-fw fa-play" },
  cancel = { disabled = finished or spec.cancel == true, iconClass = "fa fa-fw fa-stop" },
  redrive = { disabled = not finished, iconClass = "fa fa-fw fa-redo" },
}
