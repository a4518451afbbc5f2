"""What a client does: it knows nothing of how arrays travel."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from measured.model import step


def by_reference(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The plug-in, in the runs that measure it."""
    if not context.run_config["plug-in"]:
        return call_next(message, context)
    from tensorwire.flower import ReferenceMod

    return ReferenceMod(patience=float(context.run_config["patience"]))(message, context, call_next)


app = ClientApp(mods=[by_reference])


@app.train()
def train(message: Message, context: Context) -> Message:
    received = message.content.array_records["arrays"]
    trained = step({name: array.numpy() for name, array in received.items()}, int(context.node_config["partition-id"]))
    arrays = ArrayRecord({name: Array(value) for name, value in trained.items()})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)
