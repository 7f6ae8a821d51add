#!/bin/sh
# Starts Redis in a container: writes the ACL file, with the hashes of the passwords, to the data
# directory (the working directory, as in the official image), then runs Redis. A password may be a
# comma-separated list: all values are accepted, so that it can be rotated.
set -eu

here=$(dirname "$0")

hashes() {
  printf '%s' "$1" | tr ',' '\n' | while IFS= read -r password || [ -n "$password" ]; do
    [ -z "$password" ] || printf '#%s ' "$(printf '%s' "$password" | sha256sum | cut -d ' ' -f 1)"
  done
}

for name in REDIS_GATEWAY_PASSWORD REDIS_APPROVAL_PASSWORD; do
  eval "value=\${$name:-}"
  case $value in
    '' | ,*) echo "$name is not set: use a random string of 32 or more characters" >&2; exit 78 ;;
  esac
done

umask 077
sed -e '/^#/d' \
  -e "s/#@REDIS_GATEWAY_PASSWORD_SHA256@/$(hashes "$REDIS_GATEWAY_PASSWORD")/" \
  -e "s/#@REDIS_APPROVAL_PASSWORD_SHA256@/$(hashes "$REDIS_APPROVAL_PASSWORD")/" \
  "$here/users.acl" >users.acl
unset REDIS_GATEWAY_PASSWORD REDIS_APPROVAL_PASSWORD

# The image's entry point changes the owner of the data directory to redis and runs as that user.
exec docker-entrypoint.sh redis-server "$here/redis.conf" --aclfile "$PWD/users.acl" "$@"
