"""From a name, a checkpoint or a module to a `Classifier`."""
