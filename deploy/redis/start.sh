#!/bin/sh
# Starts Redis in a container: writes the ACL file, with the hashes of the passwords, to the data
# directory (the working directory, as in the official image), then runs Redis. A password may be a
# comma-separated list: all values are accepted, so that it can be rotated. It comes from the
# environment or from a file: REDIS_GATEWAY_PASSWORD or REDIS_GATEWAY_PASSWORD_FILE.
#
# `start.sh ping` is the health check.
set -eu

here=$(dirname "$0")

hashes() {
  printf '%s' "$1" | tr ',' '\n' | while IFS= read -r password || [ -n "$password" ]; do
    [ -z "$password" ] || printf '#%s ' "$(printf '%s' "$password" | sha256sum | cut -d ' ' -f 1)"
  done
}

for name in REDIS_GATEWAY_PASSWORD REDIS_APPROVAL_PASSWORD; do
  eval "value=\${$name:-} file=\${${name}_FILE:-}"
  if [ -n "$file" ]; then
    [ -z "$value" ] || { echo "$name and ${name}_FILE are both set: remove one of them" >&2; exit 78; }
    # "$( )" drops the line break at the end.
    value=$(cat "$file") || { echo "${name}_FILE=$file: the file cannot be read" >&2; exit 78; }
    eval "$name=\$value"
  fi
  case $value in
    '' | ,*) echo "$name is not set: use a random string of 32 or more characters" >&2; exit 78 ;;
  esac
done

if [ "${1:-}" = ping ]; then
  answer=$(REDISCLI_AUTH=${REDIS_APPROVAL_PASSWORD%%,*} redis-cli --user approval ping)
  [ "$answer" = PONG ] || { echo "$answer" >&2; exit 1; }
  exit 0
fi

umask 077
sed -e '/^#/d' \
  -e "s/#@REDIS_GATEWAY_PASSWORD_SHA256@/$(hashes "$REDIS_GATEWAY_PASSWORD")/" \
  -e "s/#@REDIS_APPROVAL_PASSWORD_SHA256@/$(hashes "$REDIS_APPROVAL_PASSWORD")/" \
  "$here/users.acl" >users.acl
unset REDIS_GATEWAY_PASSWORD REDIS_APPROVAL_PASSWORD

# The image's entry point changes the owner of the data directory to redis and runs as that user.
exec docker-entrypoint.sh redis-server "$here/redis.conf" --aclfile "$PWD/users.acl" "$@"
