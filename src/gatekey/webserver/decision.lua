-- Gatekey: asks the decision endpoint about one request. HAProxy 2.6 and later:
--   http-request lua.gatekey_decide unix@/run/gatekey/proxy.sock app.example staff,admins
-- reads txn.gatekey_serial and txn.gatekey_issuer, sets txn.gatekey_decision (allow, or the reason why not) and txn.gatekey_user and its kin.
-- Whatever goes wrong here leaves txn.gatekey_decision without "allow", and that is a no.

local PATIENCE = 3000 -- milliseconds

local TAKEN = {
  ["txn.gatekey_user"] = "x-client-user",
  ["txn.gatekey_name"] = "x-client-name",
  ["txn.gatekey_email"] = "x-client-email",
  ["txn.gatekey_groups"] = "x-client-groups",
  ["txn.gatekey_device"] = "x-client-device",
}

local function first(headers, name)
  return headers and headers[name] and headers[name][0] or ""
end

local function decide(txn, address, site, groups)
  txn:set_var("txn.gatekey_decision", "stale")
  local headers = {
    ["x-gatekey-serial"] = { txn:get_var("txn.gatekey_serial") or "" },
    ["x-gatekey-issuer"] = { txn:get_var("txn.gatekey_issuer") or "" },
    ["x-gatekey-site"] = { site },
  }
  if groups ~= "-" then
    headers["x-gatekey-groups"] = { groups }
  end
  local asked, answer = pcall(function()
    return core.httpclient():get({ url = "http://127.0.0.1/decision", dst = address, headers = headers, timeout = PATIENCE })
  end)
  if not asked or type(answer) ~= "table" then
    return
  end
  local user = first(answer.headers, "x-client-user")
  if answer.status == 200 and user ~= "" then
    for variable, header in pairs(TAKEN) do
      txn:set_var(variable, first(answer.headers, header))
    end
    txn:set_var("txn.gatekey_decision", "allow")
  elseif answer.status == 403 then
    local why = first(answer.headers, "x-gatekey-why")
    txn:set_var("txn.gatekey_decision", (why == "allow" or why == "") and "unknown" or why)
  end
end

core.register_action("gatekey_decide", { "http-req" }, decide, 3)
