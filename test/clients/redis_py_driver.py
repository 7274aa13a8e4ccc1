"""redis-py with its default settings, one command per line of JSON (see python-drivers.ts)."""
import json
import logging
import sys

import redis
import redis.cluster
import redis.sentinel

way, addresses = sys.argv[1], json.loads(sys.argv[2])
# What it throws is told; what it logs beside that is no concern of a test.
logging.disable(logging.CRITICAL)
# Its ClusterNode cannot be copied once it is connected, and the half-made copy complains as it is thrown away.
sys.unraisablehook = lambda _: None
HOST = "127.0.0.1"


def connect():
    if way == "plain":
        return redis.Redis(HOST, addresses["ports"][0], decode_responses=True)
    if way == "cluster":
        nodes = [redis.cluster.ClusterNode(HOST, port) for port in addresses["ports"]]
        return redis.cluster.RedisCluster(startup_nodes=nodes, decode_responses=True)
    sentinels = [(HOST, port) for port in addresses["sentinelPorts"]]
    return redis.sentinel.Sentinel(sentinels, decode_responses=True).master_for(addresses["masterName"])


client = None


def run(name, *args):
    global client
    if client is None:
        client = connect()
    if name == "pipeline":
        pipe = client.pipeline() if way == "cluster" else client.pipeline(transaction=False)
        return pipe.set(args[0], args[1]).get(args[0]).execute()[-1]
    if name == "multi":
        if way == "cluster":
            # RedisCluster of 4.3 has no transactions: that of the node that owns the key.
            node = client.get_redis_connection(client.get_node_from_key(args[0]))
            return node.pipeline(transaction=True).set(args[0], "x").incr(args[1]).execute()[-1]
        return client.pipeline(transaction=True).set(args[0], "x").incr(args[1]).execute()[-1]
    return getattr(client, name)(*args)


for line in sys.stdin:
    try:
        answer = {"value": run(*json.loads(line))}
    except Exception as error:  # whatever the library throws is told
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(answer), flush=True)
