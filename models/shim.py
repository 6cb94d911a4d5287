from models.find import find_weights, config_for as _cf
from models.checkpoints import load_model as _lm, load_network as _ln, build_network
import hashlib
from models.diffusers_folder import weight_files
from models.pipelines import autoencoder_folder
from utils.files import open_regular
class Checkpoint:
    def __init__(self, w, raw=False): self.path=find_weights(w); self.raw=raw
    def sha256(self):
        digest = hashlib.sha256()
        autoencoder = autoencoder_folder(self.path)
        for path in weight_files(self.path, self.raw) + (weight_files(autoencoder) if autoencoder else []):
            with open_regular(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()
def open_checkpoint(w, raw_weights=False): return Checkpoint(w, raw_weights)
def config_for(c, config=None, given=None): return _cf(c.path, config, c.raw, given)
def load_model(c, config=None, raw=False):
    return _lm(c.path, config, c.raw) if isinstance(c, Checkpoint) else _lm(c, config, raw)
def load_network(c, config=None, raw=False):
    return _ln(c.path, config, c.raw) if isinstance(c, Checkpoint) else _ln(c, config, raw)
def size_multiple(config):
    autoencoder = build_network(config.autoencoder) if config.autoencoder else None
    return build_network(config).size_multiple * (autoencoder.factor if autoencoder else 1)
