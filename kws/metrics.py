"""Every metric that a run logs: its name, its order and what it means, defined once."""

# Logged once per epoch, in the order of metrics.csv. Losses are means per clip, accuracies fractions, times seconds.
EPOCH = "epoch"
TRAIN_LOSS = "train/loss"
TRAIN_ACCURACY = "train/accuracy"
VAL_LOSS = "val/loss"
VAL_ACCURACY = "val/accuracy"
LR = "lr"
EPOCH_S = "time/epoch_s"
CLIPS_PER_S = "time/clips_per_s"
EPOCH_METRICS = (EPOCH, TRAIN_LOSS, TRAIN_ACCURACY, VAL_LOSS, VAL_ACCURACY, LR, EPOCH_S, CLIPS_PER_S)

# In the summary of a finished run, in the order of the report's runs.csv.
BEST_EPOCH = "best/epoch"
BEST_VAL_ACCURACY = "best/val_accuracy"
BEST_VAL_LOSS = "best/val_loss"
TEST_ACCURACY = "test/accuracy"
TEST_LOSS = "test/loss"
TEST_ERRORS = "test/errors"
TEST_F1 = "test/f1_macro"  # mean of the labels' F1; with more than two labels, as is each label's recall
EPOCH_S_MEDIAN = "time/epoch_s_median"
PARAMS = "model/params"
MACS = "model/macs"
FLOPS = "model/flops"  # 2 x MACs of the network for one clip; the log-mel layer is counted in FRONTEND_MACS
FRONTEND_MACS = "frontend/macs"
RUN_S = "time/run_s"
SUMMARY_METRICS = (
    BEST_EPOCH, BEST_VAL_ACCURACY, BEST_VAL_LOSS, TEST_ACCURACY, TEST_LOSS, TEST_ERRORS,
    EPOCH_S_MEDIAN, PARAMS, MACS, FLOPS, FRONTEND_MACS, RUN_S,
)  # fmt: skip


def recall(label: str) -> str:
    """Return the name of a label's recall on the test clips, which follows SUMMARY_METRICS."""
    return f"test/recall/{label}"


# Logged once, after the test: tables and charts.
CONFUSION_MATRIX = "test/confusion_matrix"
ROC = "test/roc"
PRECISION_RECALL = "test/precision_recall"
MISCLASSIFIED = "test/misclassified"
LAYERS = "model/layers"

# Where W&B has the run; in summary.json only.
WANDB_URL = "wandb/url"
WANDB_SYNC_DIR = "wandb/sync_dir"
WANDB_FALLBACK = "wandb/fallback"  # why a run that was to be online is offline

Row = dict[str, float]  # one epoch: EPOCH_METRICS to numbers
Summary = dict[str, float]  # SUMMARY_METRICS to numbers
