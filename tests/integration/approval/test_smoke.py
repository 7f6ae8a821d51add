from tests.integration.approval.replica import *
async def test_it(here, operator):
    d = Device.new()
    n = await here.request(d.asks())
    print((await operator.get("/v1/requests")).text)
    print((await operator.approve(n.request_id)).text)
    print((await operator.approve(n.request_id)).text)
    print((await operator.get("/v1/audit")).text)
    for m, p, kw in [("GET","//v1/requests",{}),("GET","/v1/../v1/requests",{}),("GET","/v1/%2e%2e/v1/requests",{}),("GET","/v1%2frequests",{}),("GET","/v1/requests/",{}),
      ("GET","/v1/requests?x=1",{}),("GET","/v1/audit?after=1&after=2",{}),("GET","/v1/audit?limit=0",{}),("GET","/v1/audit?%ff=0",{}),("POST","/v1/requests",{}),("HEAD","/v1/requests",{}),("OPTIONS","/v1/requests",{}),
      ("POST",f"/v1/requests/a%0a/approve",{}),("POST",f"/v1/requests/{n.request_id}%0a/approve",{}),("POST",f"/v1/requests/{n.request_id}/approve",{"json":{"x":1}}),("POST",f"/v1/requests/{n.request_id}/approve",{"data":b"{}"}),
      ("PATCH",f"/v1/devices/{d.device_id}",{"json":{"label":" a\n "}}), ("PATCH",f"/v1/devices/{d.device_id}",{"json":{"label":"  "}}), ("PATCH",f"/v1/devices/{d.device_id}",{"json":{}}),
      ("POST",f"/v1/devices/{d.device_id}/tokens/operator/rotate",{}),("POST",f"/v1/devices/{d.device_id}/tokens/operator/rotate",{"json":{"scopes":["operator.admin"]}}),("POST",f"/v1/devices/{d.device_id}/tokens/node/rotate",{}),("POST",f"/v1/devices/{d.device_id}/tokens/x/rotate",{}),
      ("POST",f"/v1/devices/{d.device_id}/tokens/operator/revoke",{}),
      ("GET",f"/v1/devices/{d.device_id}",{}),
      ("GET","/",{}),("GET","/livez",{}),("GET","/readyz",{}),("GET","/openapi.json",{}),("PUT","/livez",{}),
      ]:
        r = await operator.call(m,p,**kw)
        print(m,p,kw,r.status,r.text[:300], dict(r.headers) if r.status in(405,) else "")
    print((await operator.get("/metrics")).text[:3000])
