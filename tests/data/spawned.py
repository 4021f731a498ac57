"""What a spawned process runs, which gets its loader by pickle."""


def batches(loader, number):
    return list(loader.epoch(number))


def doubled(batch):
    return {**batch, "xs": 2 * batch["xs"]}
