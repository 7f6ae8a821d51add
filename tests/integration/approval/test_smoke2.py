import asyncio, logging
from tests.integration.approval.replica import *
async def raw(operator, data):
    r,w = await asyncio.open_connection("127.0.0.1", operator.url.port)
    w.write(data); await w.drain()
    try:
        out = await asyncio.wait_for(r.read(100000), 3)
    except asyncio.TimeoutError: out=b"TIMEOUT"
    w.close()
    return out
async def test_it(here, operator, caplog):
    A=b"Authorization: Bearer "+ADMIN_TOKEN.encode()+b"\r\n"
    H=b"Host: x\r\n"
    for d in [
      b"GET /v1/requests HTTP/1.1\r\n"+H+A+b"Bad\x01Header: x\r\n\r\n",
      b"GET /v1/requests HTTP/1.1\r\n"+H+A+b"X: a\x00b\r\n\r\n",
      b"GET /v1/requests HTTP/1.1\r\n"+H+A+b"X"*9000+b": y\r\n\r\n",
      b"GET /v1/requests?token="+ADMIN_TOKEN.encode()+b" HTTP/1.1\r\n"+H+b"Bad Header: x\r\n\r\n",
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+A+b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+A+b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"+ADMIN_TOKEN.encode()+b"\r\n\r\n",
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+A+b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
      b"GET /v1/requests HTTP/1.1\r\n"+H+A+b"Expect: foo\r\n\r\n",
      b"GET /nothing HTTP/1.1\r\n"+H+A+b"Expect: foo\r\n\r\n",
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
      b"GET /v1/requests\xff HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET /v1/devices/\xff HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET /v1/audit?\xff=1 HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET /v1/requests HTTP/1.1\r\n"+H+b"Authorization: Bearer \xff\xfe\r\n\r\n",
      b"GET http://other/v1/requests HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET http://[/v1/requests HTTP/1.1\r\n"+H+A+b"\r\n",
      b"OPTIONS * HTTP/1.1\r\n"+H+A+b"\r\n",
      b"CONNECT a:1 HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET v1/requests HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET /v1/requests;x HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET /v1/requests#x HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET /v1/requests HTTP/1.1\r\n"+A+b"\r\n",
      b"GET /v1/requests HTTP/1.1\r\n"+H+H+A+A+b"\r\n",
      b"GET /v1/requests HTTP/0.9\r\n"+A+b"\r\n",
      b"get /v1/requests HTTP/1.1\r\n"+H+A+b"\r\n",
      b"FOO /v1/requests HTTP/1.1\r\n"+H+A+b"\r\n",
      b"GET /v1/requests HTTP/1.1\r\n"+H+A+b"Content-Length: 3\r\n\r\nabc",
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+A+b"Content-Type: application/json\r\nContent-Length: 70000\r\n\r\n",
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+A+b"Content-Type: application/json\r\nContent-Length: 70000\r\n\r\n"+b"x"*70000,
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+A+b"Content-Type: application/json; charset=utf-16\r\nContent-Length: 2\r\n\r\n{}",
      b"POST /v1/requests/a/approve HTTP/1.1\r\n"+H+A+b"Content-Type: ;;;\r\nContent-Length: 2\r\n\r\n{}",
    ]:
        caplog.clear()
        out = await raw(operator, d)
        t=caplog.text
        print("=====", d[:90], len(d)); print(out.decode(errors="replace")[:900]); print("LOG", "LEAK" if ADMIN_TOKEN in t else "", t[-400:]); print("LEAK IN RESP" if ADMIN_TOKEN.encode() in out else "")
