"""What a person sees of a deployment: status, forecast, ancestry, metrics, doctor."""
