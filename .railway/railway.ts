// Latchkey on Railway: Redis, two approvals, three gateways. docs/railway.md tells the whole way.
//
// The first time, with the secrets in the environment (`make secrets` makes them):
//   set -a; . ./.env; set +a; railway config apply
// Later applies need none: what is set at Railway stays.

import { defineRailway, github, image as imageOf, preserve, project, service, volume } from "railway/iac";

declare const process: { env: Record<string, string | undefined> };

/** The repository to build from: yours. */
const REPOSITORY = "your-name/latchkey";

/** The edge's range, as its connections were seen to come; docs/railway.md says how to look. */
const EDGE = "100.64.0.0/10";

/** Whether to run an OpenClaw behind the gateways, on the private network only: docs/openclaw.md. */
const RUNS_OPENCLAW = false;

const GATEWAY_PORT = "18789";
const APPROVAL_PORT = "18790";
const OPENCLAW_PORT = "18789";

/** A value from the environment of whoever applies this, else the one that is set already. */
function secret(name: string) {
  const value = process.env[name];
  return value ? value : preserve();
}

export default defineRailway(() => {
  const source = github(REPOSITORY);
  const image = { builder: "DOCKERFILE", dockerfilePath: "deploy/Dockerfile" } as const;

  const data = volume("redis-data");
  const redis = service("redis", {
    source,
    build: { builder: "DOCKERFILE", dockerfilePath: "deploy/redis/Dockerfile" },
    deploy: { restartPolicyType: "ALWAYS" },
    volumeMounts: { "/data": data },
    env: {
      REDIS_GATEWAY_PASSWORD: secret("REDIS_GATEWAY_PASSWORD"),
      REDIS_APPROVAL_PASSWORD: secret("REDIS_APPROVAL_PASSWORD"),
      RAILWAY_DEPLOYMENT_DRAINING_SECONDS: "20",
    },
  });

  const both = {
    TRUSTED_PROXIES: EDGE,
    APPROVAL_PUBLIC_URL: "https://${{approval.RAILWAY_PUBLIC_DOMAIN}}",
    GATEWAY_PUBLIC_URL: "https://${{gateway.RAILWAY_PUBLIC_DOMAIN}}",
    LOG_LEVEL: "info",
    // Longer than DRAIN_SECONDS and the few seconds that closing takes after it.
    RAILWAY_DEPLOYMENT_DRAINING_SECONDS: "35",
    // Old and new serve side by side for so long.
    RAILWAY_DEPLOYMENT_OVERLAP_SECONDS: "10",
    HTTP_REQUESTS_LIMIT: "256",
    HTTP_REQUESTS_LIMIT_PER_ADDRESS: "32",
    HTTP_STALL_SECONDS: "20",
  };

  const approval = service("approval", {
    source,
    build: image,
    start: "python -m services.approval",
    healthcheck: "/readyz",
    replicas: 2,
    deploy: { restartPolicyType: "ALWAYS" },
    env: {
      ...both,
      REDIS_URL:
        "redis://approval:${{redis.REDIS_APPROVAL_PASSWORD}}@${{redis.RAILWAY_PRIVATE_DOMAIN}}:6379/0",
      BUS_SECRET: secret("BUS_SECRET"),
      TOKEN_SECRET: secret("TOKEN_SECRET"),
      APPROVAL_ADMIN_TOKEN: secret("APPROVAL_ADMIN_TOKEN"),
      PENDING_TTL_SECONDS: "3600",
      PENDING_LIMIT: "1000",
      PENDING_LIMIT_PER_ADDRESS: "50",
      WEBHOOK_TARGETS: secret("WEBHOOK_TARGETS"),
      WEBHOOK_SECRETS: secret("WEBHOOK_SECRETS"),
      WEBHOOK_PRIVATE_ADDRESSES: "no",
      SETUP_CODE_ACCESS: "full",
      PORT: APPROVAL_PORT,
      OPS_PORT: "18792",
    },
  });

  const gateway = service("gateway", {
    source,
    build: image,
    start: "python -m services.gateway",
    healthcheck: "/readyz",
    replicas: 3,
    deploy: { restartPolicyType: "ALWAYS" },
    env: {
      ...both,
      REDIS_URL:
        "redis://gateway:${{redis.REDIS_GATEWAY_PASSWORD}}@${{redis.RAILWAY_PRIVATE_DOMAIN}}:6379/0",
      BUS_SECRET: approval.env.BUS_SECRET,
      OPENCLAW_GATEWAY_TOKEN: secret("OPENCLAW_GATEWAY_TOKEN"),
      GATEWAY_ALLOWED_ORIGINS: "https://${{RAILWAY_PUBLIC_DOMAIN}}",
      // Another OpenClaw behind it, such as ws://openclaw.railway.internal:18789.
      UPSTREAM_URL: RUNS_OPENCLAW ? `ws://openclaw.railway.internal:${OPENCLAW_PORT}` : secret("UPSTREAM_URL"),
      UPSTREAM_SECRET: secret("UPSTREAM_SECRET"),
      GATEWAY_PREAUTH_LIMIT_PER_ADDRESS: "32",
      GATEWAY_CONNECTION_LIMIT: "20000",
      GATEWAY_CONNECTION_LIMIT_PER_ADDRESS: "0",
      GATEWAY_CONNECTION_LIMIT_PER_DEVICE: "64",
      GATEWAY_WAIT_SECONDS: "0",
      GATEWAY_MEMORY_LIMIT_MB: "128",
      BEAT_SECONDS: "1",
      LEASE_SECONDS: "10",
      DRAIN_SECONDS: "20",
      PORT: GATEWAY_PORT,
      OPS_PORT: "18791",
    },
  });

  const state = volume("openclaw-state");
  const openclaw = service("openclaw", {
    source: imageOf("ghcr.io/openclaw/openclaw:2026.9.6"),
    deploy: { restartPolicyType: "ALWAYS" },
    volumeMounts: { "/home/node": state },
    env: {
      OPENCLAW_GATEWAY_PORT: OPENCLAW_PORT,
      // More than 4 times the number of gateways.
      OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP: "64",
    },
  });

  return project("latchkey", {
    resources: [redis, data, approval, gateway, ...(RUNS_OPENCLAW ? [openclaw, state] : [])],
  });
});
